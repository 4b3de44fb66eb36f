/** Addresses as `intercept.v1` and `host.v1` list them: exact host names, `*.` wildcards, IP addresses and prefixes. */

import { z } from "zod";
import { formatIp, formatPrefix, ipBits, type IpPrefix, parsePrefix } from "../../base/ip.ts";

/** One entry of a list of addresses. */
export type AddressPattern =
  | { readonly kind: "host"; readonly host: string }
  /** Every name below `suffix`, at any depth; not `suffix` itself. */
  | { readonly kind: "wildcard"; readonly suffix: string }
  | { readonly kind: "prefix"; readonly prefix: IpPrefix };

/** Longest host name (RFC 1035 §2.3.4), without the dot of the root. */
const MAX_HOST = 253;

const LABEL = /^[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?$/i;

/** Resolvers read a name as an address whose last label is a number. */
const NUMBER = /^(?:[0-9]+|0x[0-9a-f]*)$/i;

/** A host name as it is compared: lower case, without the dot of the root; undefined when it is none. */
export function canonicalHost(text: string): string | undefined {
  const host = text.endsWith(".") ? text.slice(0, -1) : text;
  if (host.length > MAX_HOST) return undefined;
  const labels = host.split(".");
  return labels.every((label) => LABEL.test(label)) && !NUMBER.test(labels.at(-1)!)
    ? host.toLowerCase()
    : undefined;
}

/** Reads an entry; undefined when it is none. */
export function readAddressPattern(text: string): AddressPattern | undefined {
  const prefix = parsePrefix(text);
  if (prefix !== undefined) return { kind: "prefix", prefix };
  const suffix = text.startsWith("*.") ? canonicalHost(text.slice(2)) : undefined;
  if (suffix !== undefined) return { kind: "wildcard", suffix };
  const host = canonicalHost(text);
  return host === undefined ? undefined : { kind: "host", host };
}

/** Writes an entry in its one form: lower case, an address alone without its length. */
export function formatAddressPattern(pattern: AddressPattern): string {
  switch (pattern.kind) {
    case "host":
      return pattern.host;
    case "wildcard":
      return `*.${pattern.suffix}`;
    case "prefix": {
      const { version, first, length } = pattern.prefix;
      return length === ipBits(version) ? formatIp({ version, value: first }) : formatPrefix(pattern.prefix);
    }
  }
}

/** An entry of a list of addresses in JSON; the output is its one form. */
export const addressPatternSchema = z.string().min(1).max(255).overwrite((text) => {
  const pattern = readAddressPattern(text);
  return pattern === undefined ? text : formatAddressPattern(pattern);
}).refine((text) => readAddressPattern(text) !== undefined, {
  message: "not an address: write a host name, *.example.com, an IP address or a prefix such as 10.0.0.0/8",
});
