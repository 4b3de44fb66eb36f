/**
 * Which addresses are on the public Internet, so that a URL that somebody else wrote cannot reach into our own networks.
 */

import { type IpAddress, type IpPrefix, parsePrefix, prefixContains } from "../../base/ip.ts";

/** The special-purpose blocks of IPv4 (RFC 6890 and its registry), multicast and the reserved rest. */
const SPECIAL_IPV4 = prefixes([
  "0.0.0.0/8",
  "10.0.0.0/8",
  "100.64.0.0/10",
  "127.0.0.0/8",
  "169.254.0.0/16",
  "172.16.0.0/12",
  "192.0.0.0/24",
  "192.0.2.0/24",
  "192.88.99.0/24",
  "192.168.0.0/16",
  "198.18.0.0/15",
  "198.51.100.0/24",
  "203.0.113.0/24",
  "224.0.0.0/3",
]);

/** Of IPv6 only global unicast is public at all; IPv4-mapped and translated addresses are not in it. */
const GLOBAL_IPV6 = prefixes(["2000::/3"]);

/** Blocks of global unicast that are for protocols, tunnels that carry an IPv4 address, and documentation. */
const SPECIAL_IPV6 = prefixes(["2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"]);

/** Hosts and prefixes that may be reached though they are not public. */
export interface AllowedPrivate {
  allows(host: string, address: IpAddress): boolean;
}

/** Reads exceptions: a prefix or address admits that, any other text the host of that name wherever it is. */
export function parseAllowedPrivate(entries: readonly string[]): AllowedPrivate {
  const allowed: IpPrefix[] = [];
  const hosts = new Set<string>();
  for (const entry of entries) {
    const prefix = parsePrefix(entry);
    if (prefix === undefined) hosts.add(entry.toLowerCase());
    else allowed.push(prefix);
  }
  return {
    allows: (host, address) =>
      hosts.has(host.toLowerCase()) || allowed.some((prefix) => prefixContains(prefix, address)),
  };
}

/** Tells whether an address is on the public Internet. */
export function isPublicAddress(address: IpAddress): boolean {
  const isIn = (list: readonly IpPrefix[]) => list.some((prefix) => prefixContains(prefix, address));
  return address.version === 4 ? !isIn(SPECIAL_IPV4) : isIn(GLOBAL_IPV6) && !isIn(SPECIAL_IPV6);
}

/** Tells whether an address is this machine's own. */
export function isLoopback(address: IpAddress): boolean {
  return prefixContains(address.version === 4 ? LOOPBACK_IPV4 : LOOPBACK_IPV6, address);
}

const LOOPBACK_IPV4 = parsePrefix("127.0.0.0/8")!;
const LOOPBACK_IPV6 = parsePrefix("::1")!;

function prefixes(texts: readonly string[]): IpPrefix[] {
  return texts.map((text) => parsePrefix(text)!);
}
