/**
 * A set of routes as RFC 9484 advertises them: address ranges, each for one protocol or for all. Asking it about a packet
 * allocates nothing.
 */

import { type IpPrefix, type IpRange, type IpVersion, ipWords, rangeToPrefixes } from "../base/ip.ts";

/** One range and what may be sent there. */
export interface Route {
  readonly range: IpRange;
  /** Internet protocol number; 0 stands for every protocol. */
  readonly protocol: number;
}

/** What of a packet decides; a packet view has it. Addresses as there: four words, an IPv4 address in the last. */
export interface RoutedPacket {
  readonly version: IpVersion;
  readonly protocol: number;
  readonly src0: number;
  readonly src1: number;
  readonly src2: number;
  readonly src3: number;
  readonly dst0: number;
  readonly dst1: number;
  readonly dst2: number;
  readonly dst3: number;
}

/** The protocol of a route that is for every protocol. */
const ANY_PROTOCOL = 0;

/** The protocol that no route limits, for each version: ICMP and ICMPv6. */
const ICMP: Readonly<Record<IpVersion, number>> = { 4: 1, 6: 58 };

/** An unchanging set of routes; overlapping and adjacent ranges of one protocol are one. */
export class RouteSet {
  readonly #ranges: Readonly<Record<IpVersion, ReadonlyMap<number, readonly IpRange[]>>>;
  readonly #tables: Readonly<Record<IpVersion, VersionTable>>;

  private constructor(routes: Iterable<Route>) {
    this.#ranges = { 4: group(routes, 4), 6: group(routes, 6) };
    this.#tables = { 4: new VersionTable(this.#ranges[4], 4), 6: new VersionTable(this.#ranges[6], 6) };
  }

  /** Makes a set of any routes; empty ranges count for nothing. */
  static from(routes: Iterable<Route>): RouteSet {
    return new RouteSet([...routes]);
  }

  /** Whether nothing is in the set. */
  get isEmpty(): boolean {
    return this.#ranges[4].size === 0 && this.#ranges[6].size === 0;
  }

  /** Whether a packet's destination and protocol are in the set. */
  containsDestination(packet: RoutedPacket): boolean {
    if (packet.version === 4) return this.#tables[4].contains(packet.protocol, 0, 0, MAPPED, packet.dst3);
    return this.#tables[6].contains(packet.protocol, packet.dst0, packet.dst1, packet.dst2, packet.dst3);
  }

  /** Whether a packet's source and protocol are in the set. */
  containsSource(packet: RoutedPacket): boolean {
    if (packet.version === 4) return this.#tables[4].contains(packet.protocol, 0, 0, MAPPED, packet.src3);
    return this.#tables[6].contains(packet.protocol, packet.src0, packet.src1, packet.src2, packet.src3);
  }

  /** What is in both sets. Two protocols of one range have nothing in common. */
  intersect(scope: RouteSet): RouteSet {
    const routes: Route[] = [];
    for (const version of VERSIONS) {
      const ours = this.#ranges[version];
      const theirs = scope.#ranges[version];
      const ofAny = ours.get(ANY_PROTOCOL) ?? [];
      const ofAnyThere = theirs.get(ANY_PROTOCOL) ?? [];
      for (const [protocol, ranges] of ours) {
        routes.push(...shared(ranges, ofAnyThere, protocol));
        if (protocol !== ANY_PROTOCOL) routes.push(...shared(ranges, theirs.get(protocol) ?? [], protocol));
      }
      for (const [protocol, ranges] of theirs) {
        if (protocol !== ANY_PROTOCOL) routes.push(...shared(ofAny, ranges, protocol));
      }
    }
    return new RouteSet(routes);
  }

  /** The routes in the order that ROUTE_ADVERTISEMENT needs: by version, by protocol, by address. */
  toRoutes(): Route[] {
    // RFC 9484 §4.7.3: ascending by version, then protocol; of one version and protocol each ends before the next starts.
    return VERSIONS.flatMap((version) =>
      [...this.#ranges[version]].flatMap(([protocol, ranges]) => ranges.map((range) => ({ range, protocol })))
    );
  }

  /** The fewest prefixes that cover exactly the addresses in the set, whatever the protocol: what a routing table takes. */
  toPrefixes(): IpPrefix[] {
    return VERSIONS.flatMap((version) =>
      merge([...this.#ranges[version].values()].flat()).flatMap((range) => rangeToPrefixes(range))
    );
  }
}

const VERSIONS: readonly IpVersion[] = [4, 6];

/** The third word of an IPv4 address among words. */
const MAPPED = 0xffff;

/** The ranges of one version, sorted and merged by protocol; protocols ascend. */
function group(routes: Iterable<Route>, version: IpVersion): Map<number, IpRange[]> {
  const byProtocol = new Map<number, IpRange[]>();
  for (const { range, protocol } of routes) {
    if (!(Number.isInteger(protocol) && protocol >= 0 && protocol <= 255)) {
      throw new RangeError(`Cannot route protocol ${protocol}: it is no number from 0 to 255`);
    }
    if (range.version !== version || range.first > range.last) continue;
    const ranges = byProtocol.get(protocol) ?? [];
    ranges.push(range);
    byProtocol.set(protocol, ranges);
  }
  return new Map(
    [...byProtocol].sort(([a], [b]) => a - b).map(([protocol, ranges]) => [protocol, merge(ranges)]),
  );
}

/** Sorts ranges of one version and joins those that overlap or touch. */
function merge(ranges: readonly IpRange[]): IpRange[] {
  const merged: IpRange[] = [];
  for (const range of ranges.toSorted((a, b) => compare(a.first, b.first))) {
    const last = merged.at(-1);
    if (last === undefined || range.first > last.last + 1n) merged.push(range);
    else if (range.last > last.last) merged[merged.length - 1] = { ...last, last: range.last };
  }
  return merged;
}

/** What two sorted lists of ranges have in common, as routes of a protocol. */
function shared(a: readonly IpRange[], b: readonly IpRange[], protocol: number): Route[] {
  const found: Route[] = [];
  for (let i = 0, j = 0; i < a.length && j < b.length;) {
    const [left, right] = [a[i]!, b[j]!];
    const first = left.first > right.first ? left.first : right.first;
    const last = left.last < right.last ? left.last : right.last;
    if (first <= last) found.push({ range: { version: left.version, first, last }, protocol });
    if (left.last < right.last) i++;
    else j++;
  }
  return found;
}

function compare(a: bigint, b: bigint): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/** The ranges of one version, ready to be searched. */
class VersionTable {
  /** Ranges for every protocol. */
  readonly #any: RangeTable;
  /** Ranges for one protocol only. */
  readonly #only = new Map<number, RangeTable>();
  /** All ranges, whatever the protocol. */
  readonly #all: RangeTable;
  readonly #icmp: number;

  constructor(ranges: ReadonlyMap<number, readonly IpRange[]>, version: IpVersion) {
    for (const [protocol, list] of ranges) {
      if (protocol !== ANY_PROTOCOL) this.#only.set(protocol, new RangeTable(list));
    }
    this.#any = new RangeTable(ranges.get(ANY_PROTOCOL) ?? []);
    this.#all = new RangeTable(merge([...ranges.values()].flat()));
    this.#icmp = ICMP[version];
  }

  contains(protocol: number, w0: number, w1: number, w2: number, w3: number): boolean {
    // RFC 9484 §4.7.3: ICMP is allowed in every range, whatever its protocol.
    if (protocol === this.#icmp) return this.#all.contains(w0, w1, w2, w3);
    if (this.#any.contains(w0, w1, w2, w3)) return true;
    const only = this.#only.get(protocol);
    return only !== undefined && only.contains(w0, w1, w2, w3);
  }
}

/** Sorted disjoint ranges, four words to a bound. */
class RangeTable {
  readonly #count: number;
  readonly #first: Uint32Array;
  readonly #last: Uint32Array;

  constructor(ranges: readonly IpRange[]) {
    this.#count = ranges.length;
    this.#first = new Uint32Array(ranges.length * 4);
    this.#last = new Uint32Array(ranges.length * 4);
    for (const [index, { version, first, last }] of ranges.entries()) {
      this.#first.set(ipWords({ version, value: first }), index * 4);
      this.#last.set(ipWords({ version, value: last }), index * 4);
    }
  }

  contains(w0: number, w1: number, w2: number, w3: number): boolean {
    // The first range that does not end before the address is the only one that can hold it.
    let low = 0;
    let high = this.#count;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (isBelow(this.#last, middle, w0, w1, w2, w3)) low = middle + 1;
      else high = middle;
    }
    return low < this.#count && !isAbove(this.#first, low, w0, w1, w2, w3);
  }
}

/** Whether the bound at an index is lower than an address. */
function isBelow(
  bounds: Uint32Array,
  index: number,
  w0: number,
  w1: number,
  w2: number,
  w3: number,
): boolean {
  const at = index * 4;
  if (bounds[at] !== w0) return bounds[at]! < w0;
  if (bounds[at + 1] !== w1) return bounds[at + 1]! < w1;
  if (bounds[at + 2] !== w2) return bounds[at + 2]! < w2;
  return bounds[at + 3]! < w3;
}

/** Whether the bound at an index is higher than an address. */
function isAbove(
  bounds: Uint32Array,
  index: number,
  w0: number,
  w1: number,
  w2: number,
  w3: number,
): boolean {
  const at = index * 4;
  if (bounds[at] !== w0) return bounds[at]! > w0;
  if (bounds[at + 1] !== w1) return bounds[at + 1]! > w1;
  if (bounds[at + 2] !== w2) return bounds[at + 2]! > w2;
  return bounds[at + 3]! > w3;
}
