/** Everything the bench measures of services on users' machines, beside the same without capture in the same run. */

import { type Direction, type LoadTarget, measureBulk } from "./load.ts";
import {
  type BenchOptions,
  type Measurement,
  repeat,
  rowOf,
  type Scenario,
  type Subject,
} from "./measurement.ts";
import { formatNumber, median, type Target } from "./report.ts";
import { type DnsTarget, ServicesBench } from "./services_bench.ts";
import { measureUdp, searchRate, type UdpLoad, type UdpResult } from "./tunnel_load.ts";

const DIRECTIONS = ["up", "down"] as const;
/** Bytes of UDP payload. */
const SIZE = 1_200;
/** What UDP from end to end must reach, in datagrams a second. */
const UDP_TARGET = 80_000;
/** Datagrams a second while CPU time for each is taken: well below what gets through. */
const COST_RATE = 5_000;
const COST_MS = 2_000;
const QUERIES_PER_SECOND = 1_000;
const REQUESTS = 300;
const PINGS = 100;
const LONG_PATH_MS = 20;
const MANY_SERVICES = 1_000;
/** New services measured in one run. */
const CHANGES = 5;

const WAYS = {
  captured: (bench: ServicesBench, load: UdpLoad) => measureUdp(bench.captured("udp"), load),
  "auto-forward": (bench: ServicesBench, load: UdpLoad) => measureUdp(bench.autoForwarded("udp"), load),
  "dialer alone": (bench: ServicesBench, load: UdpLoad) => bench.measureDialer(load),
} as const satisfies Readonly<Record<string, (bench: ServicesBench, load: UdpLoad) => Promise<UdpResult>>>;

/** In the order in which they run. */
export const SERVICE_SCENARIOS: readonly Scenario[] = [
  {
    measurements: [
      ...DIRECTIONS.map(bulkRatioRow),
      udpRow("captured", "up", { atLeast: UDP_TARGET }),
      udpRow("captured", "down", { atLeast: UDP_TARGET }),
      udpRow("auto-forward", "up"),
      udpRow("auto-forward", "down"),
      udpRow("dialer alone", "up"),
      bareRow(),
      costRow("up"),
      costRow("down"),
      dnsRow("services: DNS answer", ({ resolver }) => resolver.own, { atMost: 2_000 }),
      dnsRow("services: DNS answer, forwarded name", ({ resolver }) => resolver.others),
      dnsRow("services: DNS answer, that name server alone", ({ resolver }) => resolver.raw),
      firstByteRow(),
      firstUseRow(),
      pingRow(),
      newServiceRow("services: a new service appears"),
      newServiceRow(`services: a new service appears beside ${MANY_SERVICES}`, MANY_SERVICES),
      longPathRow(),
    ],
    start: async (network) => {
      const services = await ServicesBench.start(network);
      const targets = { bulk: services.captured("bulk"), echo: services.captured("web") };
      return { network, targets, services, [Symbol.asyncDispose]: () => services[Symbol.asyncDispose]() };
    },
  },
];

/** Turn by turn, so that both ways meet the same machine. */
function bulkRatioRow(direction: Direction): Measurement {
  return row(`services: TCP 1 flow ${direction}, captured against port forward`, async (bench, options) => {
    const { seconds, runs } = options;
    const once = async (target: LoadTarget) =>
      (await measureBulk(target, { flows: 1, direction, seconds })).mbitPerSecond;
    const pairs = await repeat(
      runs,
      async () => [await once(bench.captured("bulk")), await once(bench.forwarded("bulk"))],
    );
    return { unit: "times", target: { atLeast: 0.8 }, ...ratioOf(pairs, "Mbit/s") };
  });
}

function udpRow(way: keyof typeof WAYS, direction: Direction, target?: Target): Measurement {
  return row(`services: 1,200 B UDP ${direction}, ${way}`, async (bench, { runs }) => {
    const load = { udpload: bench.tools.udpload, direction, size: SIZE, milliseconds: 1_000 };
    const rates = await repeat(runs, () => searchRate((rate) => WAYS[way](bench, { ...load, rate })));
    return { unit: "packets/s", runs: rates, target, note: "under 1 % loss" };
  });
}

function bareRow(): Measurement {
  return row("services: bare QUIC, 1,200 B datagrams", async (bench, { runs, seconds }) => {
    const results = await repeat(runs, () => bench.measureDatagrams({ size: SIZE, seconds }));
    const lost = median(results.map(({ lossPercent }) => lossPercent));
    const note = `one hop, nothing sealed twice; ${lost.toFixed(2)} % lost`;
    return { unit: "packets/s", runs: results.map(({ perSecond }) => perSecond), note };
  });
}

/** CPU time of all nodes for each captured datagram that arrived, less what they use when idle. */
function costRow(direction: Direction): Measurement {
  return row(`services: CPU per datagram ${direction}`, async (bench, { runs }) => {
    const { udpload } = bench.tools;
    const load = { udpload, direction, size: SIZE, rate: COST_RATE, milliseconds: COST_MS };
    const costs = await repeat(runs, async () => {
      const start = bench.cpuSeconds();
      await new Promise((resolve) => setTimeout(resolve, COST_MS));
      const idle = bench.cpuSeconds();
      const { received } = await measureUdp(bench.captured("udp"), load);
      const end = bench.cpuSeconds();
      const micros = (node: string) =>
        (end[node]! - idle[node]! - (idle[node]! - start[node]!)) / received * 1e6;
      return { agent: micros("agent"), relay: micros("relay"), connector: micros("connector") };
    });
    const of = (node: "agent" | "relay" | "connector") => median(costs.map((cost) => cost[node])).toFixed(1);
    return {
      unit: "us CPU",
      runs: costs.map(({ agent, relay, connector }) => agent + relay + connector),
      note: `at ${COST_RATE} a second; agent ${of("agent")}, relay ${of("relay")}, connector ${
        of("connector")
      } us`,
    };
  });
}

function dnsRow(name: string, target: (bench: ServicesBench) => DnsTarget, limit?: Target): Measurement {
  return row(name, async (bench, { runs, seconds }) => {
    const load = { perSecond: QUERIES_PER_SECOND, seconds };
    const before = bench.cpuSeconds();
    const results = await repeat(runs, () => bench.measureDns(target(bench), load));
    const cpu = cpuSince(before, { bench, count: runs * seconds * QUERIES_PER_SECOND, nodes: ["agent"] });
    const failed = results.reduce((sum, result) => sum + result.failed, 0);
    return {
      unit: "us p99",
      runs: results.map(({ p99Micros }) => p99Micros),
      target: limit,
      note: `${QUERIES_PER_SECOND} a second; p50 ${
        median(results.map(({ p50Micros }) => p50Micros)).toFixed(0)
      } us, ${failed} failed; ${cpu}`,
    };
  });
}

function firstByteRow(): Measurement {
  return row(
    "services: first byte of a new HTTP connection, captured against raw",
    async (bench, { runs }) => {
      const once = async (target: LoadTarget) => (await bench.measureHttp(target, REQUESTS)).p50Micros;
      const forward: number[] = [];
      const pairs = await repeat(runs, async () => {
        forward.push(await once(bench.forwarded("web")));
        return [await once(bench.captured("web")), await once(bench.raw("web"))];
      });
      const { note, ...ratio } = ratioOf(pairs, "us p50");
      const beside = `port forward ${formatNumber(median(forward))}`;
      return { unit: "times", target: { atMost: 3 }, ...ratio, note: `${note}; ${beside}` };
    },
  );
}

/** The first of all connections of an agent to a connector: their end-to-end session is made with it. */
function firstUseRow(): Measurement {
  return row("services: first byte of the first HTTP connection", async (bench, { runs }) => {
    const times = await repeat(runs, async () => {
      await bench.restartAgent();
      return (await bench.measureHttp(bench.captured("web"), 1)).p50Micros;
    });
    return { unit: "us", runs: times, note: "with a new end-to-end session" };
  });
}

/** The last of all: the way to the relay stays long. Raw are two round trips, one to connect and one for the request. */
function longPathRow(): Measurement {
  const name =
    `services: first byte over a round trip of ${LONG_PATH_MS} ms, captured against two round trips`;
  return row(name, async (bench, { runs }) => {
    await bench.restartAgent({ roundTripMs: LONG_PATH_MS });
    await bench.measureHttp(bench.captured("web"), 1);
    const times = await repeat(
      runs,
      async () => (await bench.measureHttp(bench.captured("web"), 20)).p50Micros,
    );
    const ratios = times.map((micros) => micros / (2_000 * LONG_PATH_MS));
    return {
      unit: "times",
      runs: ratios,
      target: { atMost: 3 },
      note: `${formatNumber(median(times) / 1e3)} ms p50`,
    };
  });
}

function pingRow(): Measurement {
  return row("services: added to a ping", async (bench, { runs }) => {
    const raw: number[] = [];
    const added = await repeat(runs, async () => {
      const through = await bench.measurePing(bench.captured("web").hostname, PINGS);
      raw.push(await bench.measurePing(bench.raw("web").hostname, PINGS));
      return through - raw.at(-1)!;
    });
    return { unit: "us p50", runs: added, note: `raw ${median(raw).toFixed(0)} us` };
  });
}

function newServiceRow(name: string, others = 0): Measurement {
  return row(name, async (bench, { runs }) => {
    if (others > 0) await bench.addServices(others);
    const all: number[] = [];
    const medians = await repeat(runs, async () => {
      const times = await repeat(CHANGES, () => bench.measureNewService());
      all.push(...times);
      return median(times);
    });
    const slowest = Math.max(...all).toFixed(0);
    const note = `from the API's answer to the name's; slowest of ${all.length} ${slowest} ms`;
    return { unit: "ms", runs: medians, target: { atMost: 1_000 }, note };
  });
}

/** CPU time of each node per thing done, in words. */
function cpuSince(
  before: Record<string, number>,
  { bench, count, nodes }: {
    readonly bench: ServicesBench;
    readonly count: number;
    readonly nodes: readonly string[];
  },
): string {
  const after = bench.cpuSeconds();
  const each = nodes.map((node) => `${node} ${((after[node]! - before[node]!) / count * 1e6).toFixed(0)}`);
  return `CPU us each: ${each.join(", ")}`;
}

/** The ratio of each pair, and both medians. */
function ratioOf(pairs: readonly (readonly number[])[], unit: string) {
  const [of, to] = [0, 1].map((index) => formatNumber(median(pairs.map((pair) => pair[index]!))));
  return { runs: pairs.map(([a, b]) => a! / b!), note: `${of} against ${to} ${unit}` };
}

interface Figures {
  readonly unit: string;
  readonly runs: readonly number[];
  readonly target?: Target | undefined;
  readonly note?: string;
}

function row(
  name: string,
  measure: (bench: ServicesBench, options: BenchOptions) => Promise<Figures>,
): Measurement {
  return {
    name,
    measure: async (subject, options) => {
      const { note, ...figures } = await measure(servicesOf(subject), options);
      return { ...rowOf(name, figures), ...(note === undefined ? {} : { note }) };
    },
  };
}

function servicesOf({ services }: Subject): ServicesBench {
  if (services === undefined) throw new Error("Cannot measure services without them");
  return services;
}
