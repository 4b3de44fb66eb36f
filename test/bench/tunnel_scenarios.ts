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
import type { Row, Target } from "./report.ts";
import { TunnelBench, type TunnelShape } from "./tunnel_bench.ts";
import { measureUdp, searchUdpRate } from "./tunnel_load.ts";

const DIRECTIONS = ["up", "down"] as const;
/** Bytes of UDP payload in the packet rows. */
const PACKET_SIZE = 1_200;
/** Bytes there and back in the latency rows. */
const PROBE_SIZE = 64;
/** Packets per second while CPU time per packet is taken: well below what gets through. */
const COST_RATE = 40_000;
/** Packets that a QUIC stack hands to the kernel in one piece. */
const SEGMENTS = 16;
/** Largest growth of the cost per packet that still counts as flat, on cores shared with others. */
const FLAT = 1.15;

const PLAIN: TunnelShape = { rules: 1, sessions: 1 };
const MANY_RULES: TunnelShape = { rules: 200, sessions: 1 };
const MANY_SESSIONS: TunnelShape = { rules: 1, sessions: 250 };

/** In the order in which they run. */
export const TUNNEL_SCENARIOS: readonly Scenario[] = [
  {
    measurements: [...wayRows("raw forwarding", {}), datagramRow("bare QUIC: 1,200 B datagrams")],
    start: async (network) => subjectOf(network, await TunnelBench.startRaw(network)),
  },
  tunnelScenario(PLAIN, [
    ...wayRows("tunnel", { bulk: { atLeast: 1_000 }, packets: { atLeast: 100_000 } }),
    packetRow("tunnel: 1,200 B UDP up, sent by segmentation offload", {
      direction: "up",
      segments: SEGMENTS,
    }),
    costRow(PLAIN),
  ]),
  tunnelScenario(MANY_RULES, [costRow(MANY_RULES)]),
  tunnelScenario(MANY_SESSIONS, [costRow(MANY_SESSIONS)]),
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
    ...ratio("tunnel: cost per packet, 200 rules against 1", [costName(MANY_RULES), costName(PLAIN)], {
      atMost: FLAT,
    }),
    ...ratio("tunnel: cost per packet, 250 sessions against 1", [costName(MANY_SESSIONS), costName(PLAIN)], {
      atMost: FLAT,
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

function tunnelScenario(shape: TunnelShape, measurements: readonly Measurement[]): Scenario {
  return {
    measurements,
    start: async (network: BenchNetwork) => subjectOf(network, await TunnelBench.startTunnel(network, shape)),
  };
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

/** CPU time of the relay per packet it passed on; the agent's is the note. */
function costRow(shape: TunnelShape): Measurement {
  const name = costName(shape);
  return {
    name,
    measure: async (subject, { seconds, runs }) => {
      const tunnel = tunnelOf(subject);
      const load = {
        size: PACKET_SIZE,
        rate: COST_RATE,
        milliseconds: seconds * 1_000,
        direction: "up",
      } as const;
      const results = await repeat(runs, async () => {
        const before = tunnel.cpuSeconds();
        const { received } = await measureUdp(tunnel.udp, { ...load, udpload: tunnel.udpload });
        const after = tunnel.cpuSeconds();
        const micros = (node: string) => (after[node]! - before[node]!) / received * 1e6;
        return { relay: micros("relay"), agent: micros("agent") };
      });
      const agent = rowOf(name, { unit: "us CPU", runs: results.map((result) => result.agent) }).figure;
      return {
        ...rowOf(name, { unit: "us CPU", runs: results.map((result) => result.relay) }),
        note: `at ${COST_RATE} packets/s up; agent ${agent.toFixed(1)} us`,
      };
    },
  };
}

function costName({ rules, sessions }: TunnelShape): string {
  const count = (number: number, what: string) => `${number} ${what}${number === 1 ? "" : "s"}`;
  return `tunnel: relay per packet, ${count(rules, "rule")}, ${count(sessions, "session")}`;
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
