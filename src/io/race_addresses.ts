/**
 * Connects to a name with several addresses: the next is tried when one fails or takes too long, and the
 * first that answers wins. The runtime itself would only ever try the first.
 */

import { isIP } from "node:net";
import type { HostPort } from "../base/address.ts";
import { withSignal } from "../base/async.ts";
import { race } from "../base/race.ts";
import { resolveHost } from "./system/resolve_host.ts";

/** How to try one address. */
export interface RaceOptions<T> {
  readonly signal: AbortSignal;
  attempt(hostname: string): Promise<T>;
  /** Receives what connected too late. */
  discard(connected: T): void;
  /** Finds the addresses of a name; default: the system's resolver, `/etc/hosts` included. */
  resolve?(name: string): Promise<readonly string[]>;
}

/** Resolves the name and connects; rejects with the first attempt's error when all fail. */
export async function raceAddresses<T>(address: HostPort, options: RaceOptions<T>): Promise<T> {
  const { signal, resolve = resolveHost } = options;
  signal.throwIfAborted();
  const { hostname } = address;
  const found = isIP(hostname) !== 0 ? [hostname] : await withSignal(resolve(hostname), signal);
  return await race(found.slice(0, MAX_ADDRESSES), { ...options, headStart: () => HEAD_START_MS }).catch(
    (error) => {
      throw error instanceof AggregateError ? error.errors[0] : error;
    },
  );
}

/** Milliseconds an attempt has to itself before the next one starts beside it. */
const HEAD_START_MS = 300;

/** Most addresses of one name that are tried. */
const MAX_ADDRESSES = 8;
