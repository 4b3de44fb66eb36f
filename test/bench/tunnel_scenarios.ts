/** Everything the bench measures of IP tunnels, beside raw forwarding and bare QUIC datagrams in the same run. */

import type { BenchNetwork } from "./bench_network.ts";
import {
  bulkRow,
  latencyRow,
  type Measurement,
  repeat,
  rowOf,
  type Scenario,
  type Subject,
} from "./measurement.ts";
import { median, type Row, type Target } from "./report.ts";
import { TunnelBench } from "./tunnel_bench.ts";
import { measureUdp, searchUdpRate } from "./tunnel_load.ts";

const DIRECTIONS = ["up", "down"] as const;
/** Bytes of UDP payload in the packet rows. */
const PACKET_SIZE = 1_200;
/** Bytes there and back in the latency rows. */
const PROBE_SIZE = 64;
/** Packets per second while CPU time per packet is taken: well below what gets through. */
const COST_RATE = 40_000;
const COST_MS = 2_000;
/** Packets that a QUIC stack hands to the kernel in one piece. */
const SEGMENTS = 16;
/** Largest growth of the cost per packet that still counts as flat, on cores shared with others. */
const FLAT = 1.15;

const MANY_RULES = 200;
const MANY_SESSIONS = 250;

/** In the order in which they run. */
export const TUNNEL_SCENARIOS: readonly Scenario[] = [
  {
    measurements: [...wayRows("raw forwarding", {}), datagramRow("bare QUIC: 1,200 B datagrams")],
    start: async (network) => subjectOf(network, await TunnelBench.startRaw(network)),
  },
  {
    measurements: [
      ...wayRows("tunnel", { bulk: { atLeast: 1_000 }, packets: { atLeast: 100_000 } }),
      packetRow("tunnel: 1,200 B UDP up, sent by segmentation offload", {
        direction: "up",
        segments: SEGMENTS,
      }),
      costRow("tunnel: relay per packet"),
      growthRow(
        `tunnel: relay per packet, ${MANY_RULES} rules against 1`,
        (tunnel, runs) =>
          repeat(runs, async () => {
            const few = await measureCost(tunnel);
            await tunnel.setRules(MANY_RULES);
            const many = await measureCost(tunnel);
            await tunnel.setRules(1);
            return { few, many };
          }),
      ),
      // The last: the sessions stay.
      growthRow(`tunnel: relay per packet, ${MANY_SESSIONS} sessions against 1`, async (tunnel, runs) => {
        const few = await repeat(runs, () => measureCost(tunnel));
        await tunnel.openSessions(MANY_SESSIONS - 1);
        const many = await repeat(runs, () => measureCost(tunnel));
        return few.map((cost, index) => ({ few: cost, many: many[index]! }));
      }),
    ],
    start: async (network) => subjectOf(network, await TunnelBench.startTunnel(network)),
  },
];

/** Rows that follow from others, as far as those were measured. */
export function derivedTunnelRows(rows: readonly Row[]): Row[] {
  const ratio = (name: string, [of, to]: readonly [string, string], target?: Target) =>
    compare(rows, { name, unit: "times", of, to, by: (a, b) => Math.round(a / b * 1_000) / 1_000, target });
  return [
    ...DIRECTIONS.flatMap((direction) =>
      ["TCP 1 flow", "1,200 B UDP"].flatMap((what) =>
        ratio(`tunnel: ${what} ${direction}, against raw forwarding`, [
          `tunnel: ${what} ${direction}`,
          `raw forwarding: ${what} ${direction}`,
        ])
      )
    ),
    ...ratio("tunnel: 1,200 B UDP up, against bare QUIC datagrams", [
      "tunnel: 1,200 B UDP up",
      "bare QUIC: 1,200 B datagrams",
    ]),
    ...compare(rows, {
      ...{ name: `tunnel: added to ${PROBE_SIZE} B there and back`, unit: "us p50" },
      of: `tunnel: ${PROBE_SIZE} B there and back`,
      to: `raw forwarding: ${PROBE_SIZE} B there and back`,
      by: (tunnel, raw) => tunnel - raw,
      target: { atMost: 250 },
    }),
  ];
}

function compare(
  rows: readonly Row[],
  comparison: {
    readonly name: string;
    readonly unit: string;
    readonly of: string;
    readonly to: string;
    readonly by: (of: number, to: number) => number;
    readonly target?: Target | undefined;
  },
): Row[] {
  const { name, unit, by, target } = comparison;
  const of = rows.find((row) => row.name === comparison.of),
    to = rows.find((row) => row.name === comparison.to);
  if (of === undefined || to === undefined) return [];
  return [rowOf(name, { unit, runs: [by(of.figure, to.figure)], target })];
}

function subjectOf(network: BenchNetwork, tunnel: TunnelBench): Subject & AsyncDisposable {
  const { targets } = tunnel;
  return { network, targets, tunnel, [Symbol.asyncDispose]: () => tunnel[Symbol.asyncDispose]() };
}

function wayRows(
  name: string,
  targets: { readonly bulk?: Target; readonly packets?: Target },
): Measurement[] {
  const { bulk, packets } = targets;
  return [
    ...DIRECTIONS.map((direction) =>
      bulkRow(`${name}: TCP 1 flow ${direction}`, { flows: 1, direction, ...(bulk ? { target: bulk } : {}) })
    ),
    ...DIRECTIONS.map((direction) =>
      packetRow(`${name}: 1,200 B UDP ${direction}`, { direction, ...(packets ? { target: packets } : {}) })
    ),
    latencyRow(`${name}: ${PROBE_SIZE} B there and back`, { size: PROBE_SIZE }),
  ];
}

/** Packets per second that arrive with less than 1 % loss. */
function packetRow(
  name: string,
  options: { readonly direction: "up" | "down"; readonly segments?: number; readonly target?: Target },
): Measurement {
  const { target, ...load } = options;
  return {
    name,
    measure: async (subject, { runs }) => {
      const { udp, udpload } = tunnelOf(subject);
      const rates = await repeat(runs, () => searchUdpRate(udp, { ...load, udpload, size: PACKET_SIZE }));
      return { ...rowOf(name, { unit: "packets/s", runs: rates, target }), note: "under 1 % loss" };
    },
  };
}

/** CPU time per packet that arrived, in microseconds. */
interface Cost {
  readonly relay: number;
  readonly agent: number;
}

/** What idle sessions cost by their keepalives is taken off: it is no packet's cost. */
async function measureCost(tunnel: TunnelBench): Promise<Cost> {
  const { udp, udpload } = tunnel;
  const load = { size: PACKET_SIZE, rate: COST_RATE, milliseconds: COST_MS, direction: "up" } as const;
  const idle = await cpuDuring(tunnel, () => new Promise((resolve) => setTimeout(resolve, COST_MS)));
  let received = 0;
  const busy = await cpuDuring(tunnel, async () => {
    ({ received } = await measureUdp(udp, { ...load, udpload }));
  });
  const micros = (node: string) =>
    (busy(node).cpu - idle(node).perSecond * busy(node).seconds) / received * 1e6;
  return { relay: micros("relay"), agent: micros("agent") };
}

async function cpuDuring(
  tunnel: TunnelBench,
  work: () => Promise<unknown>,
): Promise<(node: string) => { readonly cpu: number; readonly seconds: number; readonly perSecond: number }> {
  const before = tunnel.cpuSeconds(), started = performance.now();
  await work();
  const seconds = (performance.now() - started) / 1_000, after = tunnel.cpuSeconds();
  return (node) => {
    const cpu = after[node]! - before[node]!;
    return { cpu, seconds, perSecond: cpu / seconds };
  };
}

/** CPU time of the relay per packet it passed on; the agent's is the note. */
function costRow(name: string): Measurement {
  return {
    name,
    measure: async (subject, { runs }) => {
      const costs = await repeat(runs, () => measureCost(tunnelOf(subject)));
      const agent = median(costs.map((cost) => cost.agent)).toFixed(1);
      return {
        ...rowOf(name, { unit: "us CPU", runs: costs.map((cost) => cost.relay) }),
        note: `at ${COST_RATE} packets/s up; agent ${agent} us`,
      };
    },
  };
}

/** How the relay's CPU time per packet grows, measured in pairs within one start of the product. */
function growthRow(
  name: string,
  measurePairs: (
    tunnel: TunnelBench,
    runs: number,
  ) => Promise<readonly { readonly few: Cost; readonly many: Cost }[]>,
): Measurement {
  return {
    name,
    measure: async (subject, { runs }) => {
      const pairs = await measurePairs(tunnelOf(subject), runs);
      const few = pairs.map((pair) => pair.few.relay), many = pairs.map((pair) => pair.many.relay);
      return {
        ...rowOf(name, {
          unit: "times",
          runs: many.map((cost, index) => cost / few[index]!),
          target: { atMost: FLAT },
        }),
        note: `${median(few).toFixed(1)} us to ${median(many).toFixed(1)} us`,
      };
    },
  };
}

/** What two processes with nothing but a QUIC connection between them reach: no tunnel can be faster. */
function datagramRow(name: string): Measurement {
  return {
    name,
    measure: async (subject, { seconds, runs }) => {
      const results = await repeat(
        runs,
        () => tunnelOf(subject).measureDatagrams({ size: PACKET_SIZE, seconds }),
      );
      const loss = rowOf(name, { unit: "%", runs: results.map(({ lossPercent }) => lossPercent) }).figure;
      return {
        ...rowOf(name, { unit: "packets/s", runs: results.map(({ perSecond }) => perSecond) }),
        note: `${loss.toFixed(2)} % lost`,
      };
    },
  };
}

function tunnelOf({ tunnel }: Subject): TunnelBench {
  if (tunnel === undefined) throw new Error("Cannot measure a tunnel without one");
  return tunnel;
}
