/**
 * The form of a measurement: a named row and how to get its figure, in a scenario that starts what it runs against.
 */

import type { BenchNetwork, Product, Targets } from "./bench_network.ts";
import { type Direction, measureBulk, measureConnects, measureLatency } from "./load.ts";
import { type CpuPerGigabyte, median, type Row, type Target } from "./report.ts";
import type { ServicesBench } from "./services_bench.ts";
import type { TunnelBench } from "./tunnel_bench.ts";

/** Rounds and lengths of a bench. */
export interface BenchOptions {
  /** Length of one run. */
  readonly seconds: number;
  /** Runs per row; the figure is their median. */
  readonly runs: number;
}

/** What measurements run against: the product, tunnels or services on a ground of their own, or nothing but the network. */
export interface Subject {
  readonly network: BenchNetwork;
  readonly targets: Targets;
  readonly product?: Product;
  readonly tunnel?: TunnelBench;
  readonly services?: ServicesBench;
}

/** One row to be. */
export interface Measurement {
  readonly name: string;
  measure(subject: Subject, options: BenchOptions): Promise<Row>;
}

/** Measurements that share one start of their subject. */
export interface Scenario {
  readonly measurements: readonly Measurement[];
  start(network: BenchNetwork): Promise<Subject & AsyncDisposable>;
}

/** Bulk over parallel flows, in Mbit/s. */
export function bulkRow(
  name: string,
  options: {
    readonly flows: number;
    readonly direction: Direction;
    readonly target?: Target;
    readonly minSeconds?: number;
  },
): Measurement {
  const { flows, direction, target, minSeconds = 0 } = options;
  return {
    name,
    measure: async ({ targets, product, tunnel }, { seconds, runs }) => {
      const nodes = tunnel ?? product;
      const before = nodes?.cpuSeconds();
      const results = await repeat(
        runs,
        () => measureBulk(targets.bulk, { flows, direction, seconds: Math.max(seconds, minSeconds) }),
      );
      const after = nodes?.cpuSeconds();
      const gigabytes = results.reduce((sum, { bytes }) => sum + bytes, 0) / 1e9;
      return {
        ...rowOf(name, { unit: "Mbit/s", runs: results.map((result) => result.mbitPerSecond), target }),
        ...(before && after ? { cpuPerGigabyte: perGigabyte({ before, after, gigabytes }) } : {}),
      };
    },
  };
}

/** Median request/response time over one flow, in microseconds; the 99th percentile is its note. */
export function latencyRow(name: string, { size }: { readonly size: number }): Measurement {
  return {
    name,
    measure: async ({ network, targets }, { seconds, runs }) => {
      const results = await repeat(
        runs,
        () => measureLatency(targets.echo, { netload: network.netload, size, seconds }),
      );
      return {
        ...rowOf(name, { unit: "us p50", runs: results.map((result) => result.p50Micros) }),
        note: `p99 ${median(results.map((result) => result.p99Micros)).toFixed(0)} us`,
      };
    },
  };
}

/** New flows per second, each moving one byte there and back. */
export function connectsRow(
  name: string,
  { concurrency, target }: { readonly concurrency: number; readonly target?: Target },
): Measurement {
  return {
    name,
    measure: async ({ network, targets, product }, { seconds, runs }) => {
      const before = product?.cpuSeconds();
      const results = await repeat(
        runs,
        () => measureConnects(targets.echo, { netload: network.netload, concurrency, seconds }),
      );
      const after = product?.cpuSeconds();
      const flows = results.reduce((sum, { perSecond }) => sum + perSecond * seconds, 0);
      const cpu = before && after
        ? `; CPU us per flow: ${
          Object.entries(after).map(([node, used]) =>
            `${node} ${((used - before[node as keyof typeof before]) / flows * 1e6).toFixed(0)}`
          ).join(", ")
        }`
        : "";
      const failed = results.reduce((sum, result) => sum + result.failed, 0);
      return {
        ...rowOf(name, { unit: "flows/s", runs: results.map((result) => result.perSecond), target }),
        note: `${concurrency} at a time, p50 ${
          (median(results.map((r) => r.p50Micros)) / 1e3).toFixed(1)
        } ms, ${failed} failed${cpu}`,
      };
    },
  };
}

/** A row whose figure is the median of its runs. */
export function rowOf(
  name: string,
  { unit, runs, target }: {
    readonly unit: string;
    readonly runs: readonly number[];
    readonly target?: Target | undefined;
  },
): Row {
  return { name, unit, runs, figure: median(runs), ...(target === undefined ? {} : { target }) };
}

/** The results of that many runs, one after another. */
export async function repeat<T>(times: number, run: () => Promise<T>): Promise<T[]> {
  const results = [];
  for (let i = 0; i < times; i++) results.push(await run());
  return results;
}

function perGigabyte(
  { before, after, gigabytes }: {
    readonly before: CpuPerGigabyte;
    readonly after: CpuPerGigabyte;
    readonly gigabytes: number;
  },
): CpuPerGigabyte {
  return Object.fromEntries(
    Object.entries(after).map(([node, used]) => [node, (used - (before[node] ?? 0)) / gigabytes]),
  );
}
