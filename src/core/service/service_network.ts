/** How services appear in a network: from its authority's config, as text in signed views, and back. */

import {
  formatPrefix,
  ipFromBytes,
  type IpPrefix,
  parsePrefix,
  prefixContains,
  prefixOf,
} from "../../base/ip.ts";
import { sha256Hex } from "../../base/sha256.ts";
import type { ServiceNetwork } from "./catalogue.ts";

/** A network's settings for services. */
export interface ServiceNetworkSettings {
  readonly zone: string;
  readonly ipv4: IpPrefix;
  /** Absent: it follows from the trust domain. */
  readonly ipv6?: IpPrefix;
}

/** A {@linkcode ServiceNetwork} as JSON. */
export interface ServiceNetworkText {
  readonly zone: string;
  readonly ipv4: string;
  readonly ipv6: string;
}

/** The network that settings ask for. */
export function serviceNetworkOf(
  { zone, ipv4, ipv6 }: ServiceNetworkSettings,
  trustDomain: string,
): ServiceNetwork {
  return { zone, ipv4, ipv6: ipv6 ?? localPrefix(trustDomain) };
}

/** Writes a network for a view. */
export function formatServiceNetwork({ zone, ipv4, ipv6 }: ServiceNetwork): ServiceNetworkText {
  return { zone, ipv4: formatPrefix(ipv4), ipv6: formatPrefix(ipv6) };
}

/** Reads a network out of a view; undefined when it is not understood. */
export function readServiceNetwork({ zone, ipv4, ipv6 }: ServiceNetworkText): ServiceNetwork | undefined {
  const pools = { ipv4: parsePrefix(ipv4), ipv6: parsePrefix(ipv6) };
  if (pools.ipv4?.version !== 4 || pools.ipv4.length !== 16) return undefined;
  if (pools.ipv6?.version !== 6 || pools.ipv6.length !== 64) return undefined;
  return { zone, ipv4: pools.ipv4, ipv6: pools.ipv6 };
}

/** The network as it appears on a machine that puts other pools in place of the network's own. */
export function withLocalPools(
  network: ServiceNetwork,
  { ipv4, ipv6 }: { readonly ipv4?: IpPrefix | undefined; readonly ipv6?: IpPrefix | undefined },
): ServiceNetwork {
  return { zone: network.zone, ipv4: ipv4 ?? network.ipv4, ipv6: ipv6 ?? network.ipv6 };
}

/** The first of `others` that shares addresses with a pool of services, with that pool; undefined when none does. */
export function overlapOf(
  { ipv4, ipv6 }: Pick<ServiceNetwork, "ipv4" | "ipv6">,
  others: Iterable<IpPrefix | null>,
): { readonly pool: IpPrefix; readonly other: IpPrefix } | undefined {
  for (const other of others) {
    if (other === null) continue;
    for (const pool of [ipv4, ipv6]) if (prefixesOverlap(pool, other)) return { pool, other };
  }
  return undefined;
}

function prefixesOverlap(a: IpPrefix, b: IpPrefix): boolean {
  const [wide, narrow] = a.length <= b.length ? [a, b] : [b, a];
  return prefixContains(wide, { version: narrow.version, value: narrow.first });
}

/** RFC 4193 §3.2.2 wants 40 bits that no other site is likely to have: here they follow from the trust domain's name. */
function localPrefix(trustDomain: string): IpPrefix {
  const digest = sha256Hex(`services of ${trustDomain}`);
  const bytes = new Uint8Array(16);
  bytes[0] = 0xfd;
  for (let i = 0; i < 5; i++) bytes[1 + i] = Number.parseInt(digest.slice(2 * i, 2 * i + 2), 16);
  return prefixOf(ipFromBytes(bytes), 64);
}
