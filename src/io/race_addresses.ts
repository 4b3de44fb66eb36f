/**
 * Connects to a name with several addresses: the next is tried when one fails or takes too long, and the
 * first that answers wins. The runtime itself would only ever try the first.
 */

import { lookup } from "node:dns/promises";
import { isIP } from "node:net";
import type { HostPort } from "../base/address.ts";
import { sleep, withSignal } from "../base/async.ts";

/** How to try one address. */
export interface RaceOptions<T> {
  readonly signal: AbortSignal;
  attempt(hostname: string): Promise<T>;
  /** Receives what connected too late. */
  discard(connected: T): void;
}

/** Milliseconds an attempt has to itself before the next one starts beside it. */
const HEAD_START_MS = 300;

/** Most addresses of one name that are tried. */
const MAX_ADDRESSES = 8;

/** Resolves the name and connects; rejects with the first attempt's error when all fail. */
export async function raceAddresses<T>(address: HostPort, options: RaceOptions<T>): Promise<T> {
  const { signal, discard } = options;
  signal.throwIfAborted();
  const hostnames = await resolve(address.hostname, signal);
  let won = false;
  const attempts: Promise<T>[] = [];
  for (const hostname of hostnames) {
    const attempt = options.attempt(hostname).then((connected) => {
      if (won || signal.aborted) discard(connected);
      won = true;
      return connected;
    });
    attempts.push(attempt);
    if (hostnames.length > attempts.length && await settles(attempt, signal) === "connected") break;
    if (won) break;
  }
  return await Promise.any(attempts).catch((error) => {
    signal.throwIfAborted();
    throw error instanceof AggregateError ? error.errors[0] : error;
  });
}

async function resolve(hostname: string, signal: AbortSignal): Promise<readonly string[]> {
  if (isIP(hostname) !== 0) return [hostname];
  const found = await withSignal(lookup(hostname, { all: true }), signal);
  return found.slice(0, MAX_ADDRESSES).map(({ address }) => address);
}

/** Waits for an attempt's result, but no longer than its head start. */
async function settles(
  attempt: Promise<unknown>,
  signal: AbortSignal,
): Promise<"connected" | "failed" | "slow"> {
  const timer = new AbortController();
  const slow = sleep(HEAD_START_MS, { signal: AbortSignal.any([signal, timer.signal]) })
    .then(() => "slow" as const, () => "slow" as const);
  try {
    return await Promise.race([
      attempt.then(() => "connected" as const, () => "failed" as const),
      slow,
    ]);
  } finally {
    timer.abort();
  }
}
