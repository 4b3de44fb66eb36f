/**
 * Load sources and their figures: iperf3 for bulk, `tools/netload.c` for request/response and new flows.
 */

import { runCommand } from "../support/processes.ts";

/** Where a load source sends to, and from which host. */
export interface LoadTarget {
  readonly hostname: string;
  readonly port: number;
  /** Runs a command on the client's host. */
  readonly wrap: (command: readonly string[]) => readonly string[];
}

/** Which way the bulk bytes go: `up` from the client to the service. */
export type Direction = "up" | "down";

/** What one bulk transfer came to. */
export interface BulkResult {
  readonly mbitPerSecond: number;
  readonly bytes: number;
}

/** What one run of `netload` came to. */
export interface NetloadResult {
  readonly perSecond: number;
  readonly failed: number;
  readonly p50Micros: number;
  readonly p99Micros: number;
}

/** Moves bytes as fast as they go for some seconds, over parallel flows. */
export async function measureBulk(
  target: LoadTarget,
  options: { readonly flows: number; readonly direction: Direction; readonly seconds: number },
): Promise<BulkResult> {
  const { flows, direction, seconds } = options;
  const output = await runCommand(target.wrap([
    "iperf3",
    "--json",
    ...["--client", target.hostname, "--port", `${target.port}`],
    ...["--parallel", `${flows}`, "--time", `${seconds}`],
    ...(direction === "down" ? ["--reverse"] : []),
  ]));
  const report = JSON.parse(output) as { end: { sum_received: { bits_per_second: number; bytes: number } } };
  const { bits_per_second, bytes } = report.end.sum_received;
  return { mbitPerSecond: bits_per_second / 1e6, bytes };
}

/** Sends one request of `size` bytes at a time and awaits its echo. */
export async function measureLatency(
  target: LoadTarget,
  options: { readonly netload: string; readonly size: number; readonly seconds: number },
): Promise<NetloadResult> {
  const { netload, size, seconds } = options;
  return JSON.parse(
    await runCommand(
      target.wrap([netload, "latency", target.hostname, `${target.port}`, `${size}`, `${seconds}`]),
    ),
  );
}

/** Opens flows, moves one byte there and back on each, and closes them. */
export async function measureConnects(
  target: LoadTarget,
  options: { readonly netload: string; readonly concurrency: number; readonly seconds: number },
): Promise<NetloadResult> {
  const { netload, concurrency, seconds } = options;
  return JSON.parse(
    await runCommand(
      target.wrap([netload, "connects", target.hostname, `${target.port}`, `${concurrency}`, `${seconds}`]),
    ),
  );
}
