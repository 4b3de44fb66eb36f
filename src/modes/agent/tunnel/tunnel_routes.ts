/**
 * What an agent leads into its tunnel: of the routes it is told, those that its config wants. Pure.
 */

import {
  type IpAddress,
  ipBits,
  type IpPrefix,
  parsePrefix,
  prefixOf,
  prefixRange,
} from "../../../base/ip.ts";
import { type Route, RouteSet } from "../../../core/route_set.ts";

/** What the config says of routes. */
export type WantedRoutes = "advertised" | "full" | readonly IpPrefix[];

/** Halves of everything: more specific than a default route, which thus stays as it is. */
const HALVES = ["0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1"].map((text) => parsePrefix(text)!);

/** The prefixes to route into the tunnel; name servers too, where the tunnel leads to them. */
export function prefixesFor(
  wanted: WantedRoutes,
  { advertised, dns }: { readonly advertised: RouteSet; readonly dns: readonly IpAddress[] },
): IpPrefix[] {
  if (wanted === "full") return [...HALVES];
  const limits = wanted === "advertised" ? undefined : RouteSet.from(
    [...wanted, ...dns.map((address) => prefixOf(address, ipBits(address.version)))]
      .map((prefix): Route => ({ range: prefixRange(prefix), protocol: 0 })),
  );
  return (limits === undefined ? advertised : advertised.intersect(limits)).toPrefixes().flatMap(halve);
}

function halve(prefix: IpPrefix): IpPrefix[] {
  return prefix.length === 0 ? HALVES.filter(({ version }) => version === prefix.version) : [prefix];
}
