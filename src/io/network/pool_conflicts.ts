/** Whether a prefix that an interface of ours is to have for itself is in use on this machine, and which is not: pure. */

import { type IpAddress, ipBits, type IpPrefix, parsePrefix, prefixContains } from "../../base/ip.ts";
import type { KernelRoute } from "./ip_json.ts";

/** Shorter prefixes say "everything else", as default routes and their halves do: whatever is longer comes first. */
const SHORTEST = 8;

/** The route that leads into `pool` or contains it, other than by our own interface. */
export function poolConflict(
  pool: IpPrefix,
  { routes, interfaceName }: { readonly routes: readonly KernelRoute[]; readonly interfaceName: string },
): KernelRoute | undefined {
  return routes.find((route) => {
    const { prefix, type } = route;
    if (prefix.version !== pool.version || prefix.length < SHORTEST || deviceOf(route) === interfaceName) {
      return false;
    }
    // Nothing is lost where a network is refused as a whole.
    const isRefusal = type !== "unicast" && type !== "local";
    if (isRefusal && prefix.length <= pool.length) return false;
    return overlap(prefix, pool);
  });
}

/** The first of the usual private prefixes of `pool`'s kind that nothing here uses. */
export function freePool(
  pool: IpPrefix,
  options: { readonly routes: readonly KernelRoute[]; readonly interfaceName: string },
): IpPrefix | undefined {
  return candidates(pool).find((prefix) => poolConflict(prefix, options) === undefined);
}

/** The interface of a route, where it has one. */
export function deviceOf({ hop, owner }: KernelRoute): string | undefined {
  return hop?.device ?? owner;
}

/** This machine's own addresses. */
export function ownAddresses(routes: readonly KernelRoute[]): IpAddress[] {
  return routes
    .filter(({ type, prefix }) => type === "local" && prefix.length === ipBits(prefix.version))
    .map(({ prefix: { version, first } }) => ({ version, value: first }));
}

const IPV4_CANDIDATES = [
  ...numbers(101, 110).map((second) => `10.${second}.0.0/16`),
  ...numbers(64, 127).map((second) => `100.${second}.0.0/16`),
  ...numbers(16, 31).map((second) => `172.${second}.0.0/16`),
].map((text) => parsePrefix(text)!);

/**
 * Neighbours of the pool that are tried for IPv6: of a unique local /64 the next ones in its /48, then those of other
 * global identifiers, near and far (RFC 4193 §3.1).
 */
const IPV6_STEPS = 16;
const IPV6_SHIFTS = [0n, 16n, 40n];

function candidates(pool: IpPrefix): IpPrefix[] {
  if (pool.version === 4) return IPV4_CANDIDATES;
  const hostBits = BigInt(ipBits(6) - pool.length);
  return IPV6_SHIFTS.flatMap((shift) =>
    numbers(1, IPV6_STEPS).map((step) => ({
      ...pool,
      first: pool.first ^ (BigInt(step) << (hostBits + shift)),
    }))
  );
}

function overlap(a: IpPrefix, b: IpPrefix): boolean {
  const [wide, narrow] = a.length < b.length ? [a, b] : [b, a];
  return prefixContains(wide, { version: narrow.version, value: narrow.first });
}

function numbers(first: number, last: number): number[] {
  return Array.from({ length: last - first + 1 }, (_, index) => first + index);
}
