/** Addresses and prefixes that are known to be such, for the tests beside. */

import { type IpAddress, type IpPrefix, parseIp, parsePrefix } from "../../../src/base/ip.ts";

/** The tunnel interface of every test here. */
export const TUNNEL = "ginnel7";

/** The address that `text` writes. */
export function ip(text: string): IpAddress {
  const address = parseIp(text);
  if (address === undefined) throw new SyntaxError(`Cannot read ${text}`);
  return address;
}

/** The prefix that `text` writes. */
export function prefix(text: string): IpPrefix {
  const found = parsePrefix(text);
  if (found === undefined) throw new SyntaxError(`Cannot read ${text}`);
  return found;
}
