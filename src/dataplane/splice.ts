/**
 * Joins two byte channels in both directions, with back-pressure, half-close and reset, within a fixed bound of
 * memory.
 */

import type { ByteChannel } from "../base/channel.ts";

/** Options of {@linkcode splice}. */
export interface SpliceOptions {
  /** Aborts both channels. */
  readonly signal?: AbortSignal;
  /** Called for each chunk handed over. */
  readonly onBytes?: (direction: "aToB" | "bToA", length: number) => void;
  /** Milliseconds without a byte in either direction after which both channels are aborted; default: none. */
  readonly idleTimeout?: number;
}

/** How a splice ended. */
export interface SpliceResult {
  readonly bytesAtoB: number;
  readonly bytesBtoA: number;
  /** Both directions ended cleanly, one side broke, or we ended it (signal or idle time-out). */
  readonly outcome: "closed" | "reset" | "aborted";
  /** What broke or aborted it. */
  readonly error?: unknown;
}

/** Carries bytes both ways until both directions ended or either broke. Never rejects. */
export function splice(
  _a: ByteChannel,
  _b: ByteChannel,
  _options: SpliceOptions = {},
): Promise<SpliceResult> {
  return Promise.reject(new Error("not yet"));
}
