/** Under which key a caller is counted where callers are bounded by their address. */

import { formatIp, formatPrefix, parseIp, prefixOf } from "./ip.ts";

/** What stands before an IPv4 address in an IPv4-mapped one, as sockets for both versions state it. */
const MAPPED = /^::ffff:(?=\d+\.\d+\.\d+\.\d+$)/i;

/** The address in its own form: an IPv4-mapped one as the IPv4 address it stands for. */
export function plainAddress(hostname: string): string {
  return hostname.replace(MAPPED, "");
}

/** Whoever has one IPv6 address has all of its /64; an IPv4-mapped address is the IPv4 address it stands for. */
export function callerKey(hostname: string): string {
  const address = parseIp(plainAddress(hostname));
  if (address === undefined) return hostname;
  return address.version === 4 ? formatIp(address) : formatPrefix(prefixOf(address, 64));
}
