/**
 * A list of destinations a connector may be led to by the network's administrators: prefixes, names and `*.` wildcards,
 * each for all ports or for some. What is not on it is refused.
 */

import { type IpAddress, type IpPrefix, prefixContains, prefixOf } from "../../base/ip.ts";
import { type AddressPattern, formatAddressPattern, readAddressPattern } from "./address_pattern.ts";
import type { PortRange } from "./intercept.ts";

/** One entry: where to, and on which ports. */
export interface AllowedDestination {
  readonly place: AddressPattern;
  readonly ports: PortRange;
}

/** Reads `10.0.0.0/8`, `db.example`, `*.example` or `[::1]`, each with `:PORT` or `:LOW-HIGH` if need be. */
export function parseDestination(text: string): AllowedDestination | undefined {
  const whole = placeOf(text);
  if (whole !== undefined) return { place: whole, ports: ALL_PORTS };
  const match = /^(?:\[([^[\]]+)\]|([^[\]:]+))(?::([0-9]{1,5})(?:-([0-9]{1,5}))?)?$/.exec(text);
  if (match === null) return undefined;
  const [, bracketed, bare, low, high] = match;
  const place = placeOf(bracketed ?? bare!);
  // Brackets are for what has colons of its own.
  if (place === undefined || (bracketed !== undefined && place.kind !== "prefix")) return undefined;
  if (low === undefined) return { place, ports: ALL_PORTS };
  const ports = { low: Number(low), high: Number(high ?? low) };
  return ports.low >= 1 && ports.low <= ports.high && ports.high <= 65_535 ? { place, ports } : undefined;
}

/** Writes the form {@linkcode parseDestination} reads. */
export function formatDestination({ place, ports: { low, high } }: AllowedDestination): string {
  if (low === 1 && high === 65_535) return formatAddressPattern(place);
  const text = formatAddressPattern(place);
  return `${text.includes(":") ? `[${text}]` : text}:${low === high ? low : `${low}-${high}`}`;
}

/** What may be reached, asked by name or by address. */
export class DestinationList {
  readonly #entries: readonly AllowedDestination[];

  constructor(entries: readonly AllowedDestination[]) {
    this.#entries = entries;
  }

  /** Whether a name may be dialled whatever it resolves to. */
  allowsName(name: string, port: number): boolean {
    return this.allowsNameWithin(name, { low: port, high: port });
  }

  /** Whether a name may be dialled on some port of a range, whatever it resolves to. */
  allowsNameWithin(name: string, range: PortRange): boolean {
    return this.#entries.some(({ place, ports }) => touches(ports, range) && meansName(place, name));
  }

  /** Whether an address may be dialled. */
  allowsAddress(address: IpAddress, port: number): boolean {
    const plain = withoutMapping(address);
    return this.#entries.some(({ place, ports }) =>
      covers(ports, port) && place.kind === "prefix" && prefixContains(place.prefix, plain)
    );
  }

  /**
   * Whether any destination of a name, `*.` wildcard, address or prefix on one of `ranges` could be allowed: of names, that
   * they may resolve to an allowed address.
   */
  couldAllow(text: string, ranges: readonly PortRange[]): boolean {
    const asked = placeOf(text);
    if (asked === undefined) return false;
    return this.#entries.some(({ place, ports }) =>
      ranges.some((range) => touches(ports, range)) && couldMeet(asked, place)
    );
  }
}

/** Whether a pattern means a name (lower case). */
export function meansName(pattern: AddressPattern, name: string): boolean {
  if (pattern.kind === "host") return pattern.host === name;
  return pattern.kind === "wildcard" && name.endsWith(`.${pattern.suffix}`);
}

/** The address itself; of an IPv4 address written as an IPv6 one the IPv4 address, which is what sockets reach. */
export function withoutMapping(address: IpAddress): IpAddress {
  if (address.version === 4 || address.value >> 32n !== MAPPED) return address;
  return { version: 4, value: address.value & 0xffff_ffffn };
}

const ALL_PORTS: PortRange = { low: 1, high: 65_535 };

/** The prefix under which IPv6 sockets know IPv4 addresses (RFC 4291 §2.5.5.2), shifted to its place. */
const MAPPED = 0xffffn;

function placeOf(text: string): AddressPattern | undefined {
  const place = readAddressPattern(text);
  return place?.kind === "prefix" ? { kind: "prefix", prefix: prefixWithoutMapping(place.prefix) } : place;
}

function touches(a: PortRange, b: PortRange): boolean {
  return a.low <= b.high && b.low <= a.high;
}

function covers({ low, high }: PortRange, port: number): boolean {
  return port >= low && port <= high;
}

function couldMeet(asked: AddressPattern, allowed: AddressPattern): boolean {
  if (asked.kind === "prefix") {
    return allowed.kind === "prefix" && overlap(asked.prefix, allowed.prefix);
  }
  // What a name resolves to is known only when it is dialled.
  if (allowed.kind === "prefix") return true;
  if (asked.kind === "host") return meansName(allowed, asked.host);
  if (allowed.kind === "host") return meansName(asked, allowed.host);
  return meansName(asked, `x.${allowed.suffix}`) || meansName(allowed, `x.${asked.suffix}`);
}

function overlap(a: IpPrefix, b: IpPrefix): boolean {
  const [wide, narrow] = a.length <= b.length ? [a, b] : [b, a];
  return prefixContains(wide, { version: narrow.version, value: narrow.first });
}

function prefixWithoutMapping(prefix: IpPrefix): IpPrefix {
  if (prefix.version === 4 || prefix.length < 96) return prefix;
  const plain = withoutMapping({ version: 6, value: prefix.first });
  return plain.version === 4 ? prefixOf(plain, prefix.length - 96) : prefix;
}
