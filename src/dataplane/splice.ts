/**
 * Joins two byte channels in both directions, with back-pressure, half-close and reset. It holds one chunk per
 * direction and looks at none of it. It does not read ahead of a pending write: measured on sockets, that is slower.
 */

import type { ByteChannel } from "../base/channel.ts";
import { DataplaneError } from "./errors.ts";

/** Which way bytes go. */
export type SpliceDirection = "aToB" | "bToA";

/** Options of {@linkcode splice}. */
export interface SpliceOptions {
  /** Aborts both channels. */
  readonly signal?: AbortSignal;
  /** Called for each chunk that was handed over. */
  readonly onBytes?: (direction: SpliceDirection, length: number) => void;
  /** Milliseconds without a byte in either direction after which both channels are aborted; default: none. */
  readonly idleTimeout?: number;
}

/** How a splice ended. */
export interface SpliceResult {
  /** Bytes handed over. */
  readonly bytesAtoB: number;
  readonly bytesBtoA: number;
  /** Both directions ended cleanly, one side broke, or we ended it (signal or idle time-out). */
  readonly outcome: "closed" | "reset" | "aborted";
  /** What broke or aborted it. */
  readonly error?: unknown;
}

/** A channel that also tells when it breaks while nobody reads or writes; sealed flows do. */
interface BreakableChannel extends ByteChannel {
  onBreak(callback: (error: Error) => void): () => void;
}

/** Carries bytes both ways until both directions ended or either side broke, which aborts both. Never rejects. */
export async function splice(
  a: ByteChannel,
  b: ByteChannel,
  options: SpliceOptions = {},
): Promise<SpliceResult> {
  const run = new Splice(a, b, options);
  const end = await run.end();
  return { bytesAtoB: run.bytes.aToB, bytesBtoA: run.bytes.bToA, ...end };
}

type SpliceEnd = Pick<SpliceResult, "outcome" | "error">;

class Splice {
  readonly bytes: Record<SpliceDirection, number> = { aToB: 0, bToA: 0 };
  readonly #a: ByteChannel;
  readonly #b: ByteChannel;
  readonly #options: SpliceOptions;
  readonly #early = Promise.withResolvers<SpliceEnd>();
  #isEnded = false;
  #lastActivity = 0;

  constructor(a: ByteChannel, b: ByteChannel, options: SpliceOptions) {
    this.#a = a;
    this.#b = b;
    this.#options = options;
  }

  async end(): Promise<SpliceEnd> {
    const { signal, idleTimeout } = this.#options;
    const onAbort = () => this.#cut({ outcome: "aborted", error: signal!.reason });
    if (signal?.aborted) {
      onAbort();
      return await this.#early.promise;
    }
    signal?.addEventListener("abort", onAbort, { once: true });
    const stopWatching = [this.#a, this.#b].map((channel) => this.#watchBreak(channel));
    const stopIdle = idleTimeout === undefined ? undefined : this.#watchIdle(idleTimeout);
    const both = Promise.all([this.#pump("aToB"), this.#pump("bToA")]);
    try {
      return await Promise.race([this.#early.promise, both.then((): SpliceEnd => ({ outcome: "closed" }))]);
    } finally {
      this.#isEnded = true;
      signal?.removeEventListener("abort", onAbort);
      for (const stop of stopWatching) stop?.();
      stopIdle?.();
    }
  }

  async #pump(direction: SpliceDirection): Promise<void> {
    const [from, to] = direction === "aToB" ? [this.#a, this.#b] : [this.#b, this.#a];
    const { onBytes } = this.#options;
    try {
      let chunk: Uint8Array | null;
      while ((chunk = await from.read()) !== null) {
        const length = chunk.length;
        await to.write(chunk);
        this.bytes[direction] += length;
        this.#lastActivity = performance.now();
        onBytes?.(direction, length);
      }
      await to.closeWrite();
    } catch (error) {
      this.#cut({ outcome: "reset", error });
    }
  }

  /** Ends both directions at once. The first cause wins. */
  #cut(end: SpliceEnd): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    this.#early.resolve(end);
    this.#a.abort(end.error);
    this.#b.abort(end.error);
  }

  #watchBreak(channel: ByteChannel): (() => void) | undefined {
    if (!("onBreak" in channel)) return undefined;
    return (channel as BreakableChannel).onBreak((error) => this.#cut({ outcome: "reset", error }));
  }

  #watchIdle(idleTimeout: number): () => void {
    this.#lastActivity = performance.now();
    const check = () => {
      const left = this.#lastActivity + idleTimeout - performance.now();
      if (left > 0) timer = setTimeout(check, left);
      else {this.#cut({
          outcome: "aborted",
          error: new DataplaneError("ERR_FLOW_IDLE", "Flow was idle too long"),
        });}
    };
    let timer = setTimeout(check, idleTimeout);
    return () => clearTimeout(timer);
  }
}
