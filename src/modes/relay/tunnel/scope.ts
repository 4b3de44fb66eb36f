/**
 * What a connect-ip request limits itself to (RFC 9484 §4.6): a target, which is a host, an address, a prefix or
 * everything, and a protocol.
 */

import { type IpPrefix, parsePrefix, prefixRange } from "../../../base/ip.ts";
import { RouteSet } from "../../../core/route_set.ts";
import { resolveHost } from "../../../io/system/resolve_host.ts";
import type { IpScope } from "../../../wire/masque/uri.ts";

/** The whole of IPv4 and IPv6. */
const EVERYTHING = ["0.0.0.0/0", "::/0"] as const;

/** Addresses of one target that are used. */
const MAX_ADDRESSES = 32;

/** The destinations of a request; undefined when its target has no address. */
export async function resolveScope({ target, ipproto }: IpScope): Promise<RouteSet | undefined> {
  const prefixes = await prefixesOf(target);
  if (prefixes.length === 0) return undefined;
  const protocol = ipproto === "*" ? 0 : ipproto;
  return RouteSet.from(prefixes.map((prefix) => ({ range: prefixRange(prefix), protocol })));
}

async function prefixesOf(target: string): Promise<IpPrefix[]> {
  if (target === "*") return EVERYTHING.map((text) => parsePrefix(text)!);
  const prefix = parsePrefix(target);
  if (prefix !== undefined) return [prefix];
  // RFC 9484 §4.6: a name is resolved before the request is answered, and its addresses are the scope.
  const found = await resolveHost(target).catch(() => []);
  return found.slice(0, MAX_ADDRESSES).map(parsePrefix).filter((prefix) => prefix !== undefined);
}
