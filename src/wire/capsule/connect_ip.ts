/**
 * The capsules of a connect-ip request (RFC 9484 §4.7): which addresses the peer may use, which it asks for, and where its
 * packets may go. Each list replaces the one before.
 *
 *   Address (assigned or requested) = | Request ID (varint) | IP version (8) | Address (32 or 128) | Prefix length (8) |
 *   Route                           = | IP version (8) | First (32 or 128) | Last (32 or 128) | Protocol (8) |
 */
import { ProtocolError } from "../../base/errors.ts";
import {
  type IpAddress,
  ipBits,
  ipFromBytes,
  type IpRange,
  ipToBytes,
  type IpVersion,
  prefixOf,
} from "../../base/ip.ts";
import { H3_DATAGRAM_ERROR, H3_MESSAGE_ERROR } from "../h3/codes.ts";
import { readVarint, varintLength, varintSize, writeVarint } from "../varint.ts";
import { encodeCapsule } from "./capsule.ts";

/** The addresses that the receiver may use as sources. */
export const ADDRESS_ASSIGN = 0x01;
/** Addresses that the sender wants. */
export const ADDRESS_REQUEST = 0x02;
/** The destinations to which the sender will route packets of the receiver. */
export const ROUTE_ADVERTISEMENT = 0x03;

/** Most addresses of one capsule: a host has a few, and each costs a lookup key per session. */
export const MAX_ADDRESSES = 64;
/** Most routes of one capsule; an agent puts each into its routing table. Decoded, about 1 MiB. */
export const MAX_ROUTES = 4_096;
/** Bytes of the longest value that these limits allow, to be the limit of the capsule reader: 4,096 IPv6 routes. */
export const MAX_CONNECT_IP_CAPSULE = MAX_ROUTES * (1 + 16 + 16 + 1);

/** The largest request ID we take: one must be sent back exactly, and numbers above are not exact. */
const MAX_REQUEST_ID = Number.MAX_SAFE_INTEGER;

/** An address of ADDRESS_ASSIGN or ADDRESS_REQUEST, which stands for the whole prefix when that is shorter. */
export interface AssignedAddress {
  /** The request that this answers, or 0; of a request, its own number, never 0. */
  readonly requestId: number;
  /** The address; all zero in a request that has no preference, and in an answer that assigns none. */
  readonly address: IpAddress;
  readonly prefixLength: number;
}

/** A range of destinations. */
export interface IpRoute {
  readonly range: IpRange;
  /** The only protocol to be sent there, besides ICMP, which always may; 0 stands for all. */
  readonly protocol: number;
}

/** Tells whether an assigned address answers a request with "no address" (RFC 9484 §4.7.2). */
export function isRefusedAddress({ requestId, address, prefixLength }: AssignedAddress): boolean {
  return requestId !== 0 && address.value === 0n && prefixLength === ipBits(address.version);
}

/** Writes an ADDRESS_ASSIGN capsule; an empty list takes all addresses away. */
export function encodeAddressAssign(list: readonly AssignedAddress[]): Uint8Array<ArrayBuffer> {
  for (const entry of list) checkHostBits(entry, cannotEncode);
  return encodeCapsule(ADDRESS_ASSIGN, encodeAddresses(list));
}

/** Reads the value of an ADDRESS_ASSIGN capsule. */
export function decodeAddressAssign(value: Uint8Array): AssignedAddress[] {
  const list = decodeAddresses(value, 0);
  for (const entry of list) checkHostBits(entry, malformed);
  return list;
}

/** Writes an ADDRESS_REQUEST capsule; every entry has a request ID of its own. */
export function encodeAddressRequest(list: readonly AssignedAddress[]): Uint8Array<ArrayBuffer> {
  checkRequests(list, cannotEncode);
  return encodeCapsule(ADDRESS_REQUEST, encodeAddresses(list));
}

/** Reads the value of an ADDRESS_REQUEST capsule. */
export function decodeAddressRequest(value: Uint8Array): AssignedAddress[] {
  const list = decodeAddresses(value, 0);
  checkRequests(list, malformed);
  return list;
}

/** Writes a ROUTE_ADVERTISEMENT capsule; the routes come in the order of RFC 9484 §4.7.3. */
export function encodeRouteAdvertisement(list: readonly IpRoute[]): Uint8Array<ArrayBuffer> {
  if (list.length > MAX_ROUTES) throw cannotEncode(`${list.length} routes are more than ${MAX_ROUTES}`);
  checkRoutes(list, cannotEncode);
  let length = 0;
  for (const { range } of list) length += 2 + ipBits(range.version) / 4;
  const value = new Uint8Array(length);
  let offset = 0;
  for (const { range: { version, first, last }, protocol } of list) {
    if (!(Number.isInteger(protocol) && protocol >= 0 && protocol <= 255)) {
      throw cannotEncode(`has a route for protocol ${protocol}`);
    }
    const size = ipBits(version) / 8;
    value[offset] = version;
    value.set(ipToBytes({ version, value: first }), offset + 1);
    value.set(ipToBytes({ version, value: last }), offset + 1 + size);
    value[offset + 1 + 2 * size] = protocol;
    offset += 2 + 2 * size;
  }
  return encodeCapsule(ROUTE_ADVERTISEMENT, value);
}

/** Reads the value of a ROUTE_ADVERTISEMENT capsule. */
export function decodeRouteAdvertisement(value: Uint8Array): IpRoute[] {
  const list: IpRoute[] = [];
  for (let offset = 0; offset < value.length;) {
    if (list.length === MAX_ROUTES) throw tooMany("routes", MAX_ROUTES);
    const version = readVersion(value, offset++);
    const size = ipBits(version) / 8;
    if (value.length - offset < 2 * size + 1) throw malformed("ends inside a route");
    const first = ipFromBytes(value.subarray(offset, offset + size)).value;
    const last = ipFromBytes(value.subarray(offset + size, offset + 2 * size)).value;
    list.push({ range: { version, first, last }, protocol: value[offset + 2 * size]! });
    offset += 2 * size + 1;
  }
  checkRoutes(list, malformed);
  return list;
}

/** Writes addresses one behind the other, without what only one kind of capsule demands of them. */
export function encodeAddresses(list: readonly AssignedAddress[]): Uint8Array<ArrayBuffer> {
  if (list.length > MAX_ADDRESSES) {
    throw cannotEncode(`${list.length} addresses are more than ${MAX_ADDRESSES}`);
  }
  let length = 0;
  for (const { requestId, address } of list) {
    length += varintSize(requestId) + 2 + ipBits(address.version) / 8;
  }
  const value = new Uint8Array(length);
  let offset = 0;
  for (const { requestId, address, prefixLength } of list) {
    prefixOf(address, prefixLength);
    offset = writeVarint(value, offset, requestId);
    value[offset] = address.version;
    const bytes = ipToBytes(address);
    value.set(bytes, offset + 1);
    value[offset + 1 + bytes.length] = prefixLength;
    offset += 2 + bytes.length;
  }
  return value;
}

/** Reads addresses from `start` to the end, without what only one kind of capsule demands of them. */
export function decodeAddresses(value: Uint8Array, start: number): AssignedAddress[] {
  const list: AssignedAddress[] = [];
  for (let offset = start; offset < value.length;) {
    if (list.length === MAX_ADDRESSES) throw tooMany("addresses", MAX_ADDRESSES);
    const idSize = varintLength(value[offset]!);
    // RFC 9297 §3.3: a value that ends inside a field makes the message malformed.
    if (value.length - offset < idSize + 1) throw malformed("ends inside an address");
    const requestId = readVarint(value, offset);
    if (requestId > MAX_REQUEST_ID) {
      throw new ProtocolError("stream", H3_DATAGRAM_ERROR, "Request ID of an address is larger than 2^53-1");
    }
    offset += idSize;
    const version = readVersion(value, offset++);
    const size = ipBits(version) / 8;
    if (value.length - offset < size + 1) throw malformed("ends inside an address");
    const address = ipFromBytes(value.subarray(offset, offset + size));
    const prefixLength = value[offset + size]!;
    // RFC 9484 §4.7.1: a prefix is at most as long as the address.
    if (prefixLength > 8 * size) throw malformed(`has a prefix of ${prefixLength} bits of IPv${version}`);
    list.push({ requestId, address, prefixLength });
    offset += size + 1;
  }
  return list;
}

/** The error of a capsule whose value is not what its type says. */
export function malformed(what: string): ProtocolError {
  return new ProtocolError("stream", H3_MESSAGE_ERROR, `Capsule of connect-ip ${what}`);
}

function cannotEncode(what: string): RangeError {
  return new RangeError(`Cannot encode capsule of connect-ip: it ${what}`);
}

function tooMany(what: string, limit: number): ProtocolError {
  return new ProtocolError(
    "stream",
    H3_DATAGRAM_ERROR,
    `Capsule of connect-ip has more than ${limit} ${what}`,
  );
}

function readVersion(value: Uint8Array, offset: number): IpVersion {
  const version = value[offset];
  // RFC 9484 §4.7.1 and §4.7.3: the version is 4 or 6.
  if (version !== 4 && version !== 6) throw malformed(`has an address of IP version ${version}`);
  return version;
}

function checkHostBits({ address, prefixLength }: AssignedAddress, fail: (what: string) => Error): void {
  // RFC 9484 §4.7.1 and §4.7.2: the bits behind the prefix are zero.
  if (prefixOf(address, prefixLength).first !== address.value) {
    throw fail(`has an address with bits behind its prefix of ${prefixLength}`);
  }
}

function checkRequests(list: readonly AssignedAddress[], fail: (what: string) => Error): void {
  // RFC 9484 §4.7.2: a request asks for one address or more.
  if (list.length === 0) throw fail("asks for no address");
  const seen = new Set<number>();
  for (const entry of list) {
    // RFC 9484 §4.7.2: a request ID is not 0 and not used twice.
    if (entry.requestId === 0 || seen.has(entry.requestId)) throw fail(`uses request ID ${entry.requestId}`);
    seen.add(entry.requestId);
    checkHostBits(entry, fail);
  }
}

function checkRoutes(list: readonly IpRoute[], fail: (what: string) => Error): void {
  /** Ranges for all protocols, of the version at hand. */
  let forAll: IpRange[] = [];
  let before: IpRoute | undefined;
  for (const route of list) {
    const { range, protocol } = route;
    // RFC 9484 §4.7.3: a range does not end before it starts.
    if (range.first > range.last) throw fail("has a route that ends before it starts");
    // RFC 9484 §4.7.3: ordered by version, protocol and address, and free of overlaps.
    if (before !== undefined && !follows(route, before)) throw fail("has routes out of order");
    if (before?.range.version !== range.version) forAll = [];
    if (protocol === 0) forAll.push(range);
    // RFC 9484 §4.7.3: a route for one protocol does not overlap one for all.
    else if (overlapsSorted(forAll, range)) throw fail("has a route for one protocol inside one for all");
    before = route;
  }
}

function follows(next: IpRoute, before: IpRoute): boolean {
  if (next.range.version !== before.range.version) return next.range.version > before.range.version;
  if (next.protocol !== before.protocol) return next.protocol > before.protocol;
  return next.range.first > before.range.last;
}

/** Tells whether `range` overlaps one of `sorted`, which do not overlap one another. */
function overlapsSorted(sorted: readonly IpRange[], range: IpRange): boolean {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (sorted[middle]!.last < range.first) low = middle + 1;
    else high = middle;
  }
  const candidate = sorted[low];
  return candidate !== undefined && candidate.first <= range.last;
}
