/**
 * Starts the UDP proxy of `udp_proxy.c` as its own process: one-way delay and seeded random loss between clients and
 * one target. Compiled with gcc because a receive-send loop in the runtime passed on only 8,000 of 60,000 datagrams a
 * second here; this one spends 1.8 us of CPU per datagram on batched QUIC (782 Mbit/s on a fifth of a core).
 */

import { compileTool } from "./compile_tool.ts";
import { ManagedProcess } from "./processes.ts";

/** What the proxy does to every datagram. */
export interface UdpProxyOptions {
  /** Where clients send to; port 0 picks a free one. */
  readonly listen: { readonly hostname: string; readonly port: number };
  readonly target: { readonly hostname: string; readonly port: number };
  /** Added in each direction, in milliseconds: a round trip grows by twice as much. */
  readonly delayMs: number;
  /** Probability that a datagram is dropped, in each direction. */
  readonly loss?: number;
  /** Same seed and same datagrams: same losses. */
  readonly seed?: number;
  /** Bytes under way in both directions together; what arrives beyond that is dropped. Default 64 MiB. */
  readonly queueBytes?: number;
  /** Turns the command line into one that runs elsewhere, e.g. in a namespace. */
  readonly wrap?: (command: readonly string[]) => readonly string[];
}

/** Counters of a proxy's whole life, in datagrams unless named otherwise. */
export interface UdpProxyCounters {
  readonly forwarded: number;
  readonly bytes: number;
  /** Dropped by chance, as asked for. */
  readonly lost: number;
  /** Dropped because the delay queue was full. */
  readonly queueDropped: number;
  /** Refused by the kernel on departure. */
  readonly sendDropped: number;
  /** From clients beyond the 4,096 the proxy serves. */
  readonly clientDropped: number;
  readonly clients: number;
  readonly queuePeakBytes: number;
  /** How much later than asked batches departed. */
  readonly meanLateMicros: number;
  readonly maxLateMicros: number;
}

/** A running proxy. */
export class UdpProxy implements AsyncDisposable {
  readonly port: number;
  readonly process: ManagedProcess;

  private constructor(process: ManagedProcess, port: number) {
    this.process = process;
    this.port = port;
  }

  /** Compiles the proxy if need be, starts it and waits until it listens. */
  static async start(options: UdpProxyOptions): Promise<UdpProxy> {
    const {
      listen,
      target,
      delayMs,
      loss = 0,
      seed = 1,
      queueBytes = 64 << 20,
      wrap = (command) => command,
    } = options;
    const binary = await compileTool(new URL("./udp_proxy.c", import.meta.url));
    const command = [
      binary,
      ...[listen.hostname, listen.port, target.hostname, target.port],
      ...[Math.round(delayMs * 1_000), loss, seed, queueBytes],
    ].map(String);
    const process = ManagedProcess.spawn(wrap(command), { name: "udp_proxy" });
    try {
      const [, port] = await process.waitForLine(/^listening (\d+)$/);
      return new UdpProxy(process, Number(port));
    } catch (error) {
      await process.stop();
      throw error;
    }
  }

  /** Stops the proxy and returns what it counted. */
  async stop(): Promise<UdpProxyCounters> {
    await this.process.stop();
    const last = this.process.lines.findLast((line) => line.startsWith("{"));
    if (last === undefined) {
      throw new Error(`udp_proxy ended without counters:\n${this.process.lines.join("\n")}`);
    }
    return JSON.parse(last) as UdpProxyCounters;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.process.stop();
  }
}
