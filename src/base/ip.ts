/**
 * IP addresses, prefixes and ranges of both versions as plain values: strict parsing, canonical text, bytes, and the four
 * words of a packet view. A parser that does not consume its whole input fails.
 */

/** The two versions of IP. */
export type IpVersion = 4 | 6;

/** One address. An IPv4-mapped IPv6 address is an IPv6 address. */
export interface IpAddress {
  readonly version: IpVersion;
  /** The address as an unsigned number of 32 or 128 bits. */
  readonly value: bigint;
}

/** All addresses that share their first `length` bits. */
export interface IpPrefix {
  readonly version: IpVersion;
  /** The network address: its host bits are zero. */
  readonly first: bigint;
  readonly length: number;
}

/** All addresses from `first` to `last`, both included. */
export interface IpRange {
  readonly version: IpVersion;
  readonly first: bigint;
  readonly last: bigint;
}

/** Longer text is no address: eight groups, the last two as IPv4. */
const MAX_TEXT = 45;

const OCTET = /^(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)$/;
const GROUP = /^[0-9a-fA-F]{1,4}$/;

/** The word behind which an IPv4 address stands as an IPv4-mapped one (RFC 4291 §2.5.5.2). */
const MAPPED_WORD = 0xffff;

/** Bits of an address. */
export function ipBits(version: IpVersion): 32 | 128 {
  return version === 4 ? 32 : 128;
}

/**
 * Reads an address: four decimal octets without leading zeros, or a form of RFC 4291 §2.2 without zone and brackets.
 * Returns `undefined` for anything else.
 */
export function parseIp(text: string): IpAddress | undefined {
  if (text.length > MAX_TEXT) return undefined;
  const version = text.includes(":") ? 6 : 4;
  const value = version === 6 ? parseIpv6(text) : parseIpv4(text);
  return value === undefined ? undefined : { version, value };
}

/** Writes an address; IPv6 in the form of RFC 5952, with an IPv4-mapped one's last 32 bits as IPv4. */
export function formatIp({ version, value }: IpAddress): string {
  if (version === 4) return formatIpv4(value);
  if (value >> 32n === 0xffffn) return `::ffff:${formatIpv4(value & 0xffff_ffffn)}`;
  const groups: string[] = [];
  for (let shift = 112n; shift >= 0n; shift -= 16n) groups.push(((value >> shift) & 0xffffn).toString(16));
  const { start, length } = longestZeroRun(groups);
  if (length < 2) return groups.join(":");
  return `${groups.slice(0, start).join(":")}::${groups.slice(start + length).join(":")}`;
}

/** Reads an address of 4 or 16 bytes in network order; throws `RangeError` on any other length. */
export function ipFromBytes(bytes: Uint8Array): IpAddress {
  if (bytes.length !== 4 && bytes.length !== 16) {
    throw new RangeError(`Cannot read IP address: expected 4 or 16 bytes, got ${bytes.length}`);
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (bytes.length === 4) return { version: 4, value: BigInt(view.getUint32(0)) };
  return { version: 6, value: (view.getBigUint64(0) << 64n) | view.getBigUint64(8) };
}

/** Writes an address as 4 or 16 bytes in network order. */
export function ipToBytes({ version, value }: IpAddress): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(ipBits(version) / 8);
  const view = new DataView(bytes.buffer);
  if (version === 4) {
    view.setUint32(0, Number(value));
  } else {
    view.setBigUint64(0, value >> 64n);
    view.setBigUint64(8, value);
  }
  return bytes;
}

/** Makes an address of the words of a packet view; of IPv4 only the last word counts. */
// deno-lint-ignore ginnel/few-parameters -- the words of an address are one value that costs no allocation
export function ipFromWords(version: IpVersion, w0: number, w1: number, w2: number, w3: number): IpAddress {
  if (version === 4) return { version, value: BigInt(w3 >>> 0) };
  const high = (BigInt(w0 >>> 0) << 32n) | BigInt(w1 >>> 0);
  const low = (BigInt(w2 >>> 0) << 32n) | BigInt(w3 >>> 0);
  return { version, value: (high << 64n) | low };
}

/** Returns the words of an address as a packet view holds them: unsigned, IPv4 as 0, 0, 0xffff, address. */
export function ipWords({ version, value }: IpAddress): readonly [number, number, number, number] {
  if (version === 4) return [0, 0, MAPPED_WORD, Number(value)];
  return [
    Number(value >> 96n),
    Number((value >> 64n) & 0xffff_ffffn),
    Number((value >> 32n) & 0xffff_ffffn),
    Number(value & 0xffff_ffffn),
  ];
}

/**
 * Reads `address/length`, or an address alone as the prefix of just that address. Host bits are cleared. Returns
 * `undefined` for anything else.
 */
export function parsePrefix(text: string): IpPrefix | undefined {
  const slash = text.indexOf("/");
  const address = parseIp(slash < 0 ? text : text.slice(0, slash));
  if (address === undefined) return undefined;
  const bits = ipBits(address.version);
  if (slash < 0) return prefixOf(address, bits);
  const digits = text.slice(slash + 1);
  if (!/^(?:0|[1-9]\d{0,2})$/.test(digits)) return undefined;
  const length = Number(digits);
  return length > bits ? undefined : prefixOf(address, length);
}

/** Writes a prefix as `address/length`. */
export function formatPrefix({ version, first, length }: IpPrefix): string {
  return `${formatIp({ version, value: first })}/${length}`;
}

/** Returns the prefix of `length` bits that holds `address`; throws `RangeError` when there is no such length. */
export function prefixOf({ version, value }: IpAddress, length: number): IpPrefix {
  const bits = ipBits(version);
  if (!(Number.isInteger(length) && length >= 0 && length <= bits)) {
    throw new RangeError(
      `Cannot make IPv${version} prefix: expected a length from 0 to ${bits}, got ${length}`,
    );
  }
  const hostBits = BigInt(bits - length);
  return { version, first: (value >> hostBits) << hostBits, length };
}

/** Returns the first and the last address of a prefix. */
export function prefixRange({ version, first, length }: IpPrefix): IpRange {
  return { version, first, last: first + (1n << BigInt(ipBits(version) - length)) - 1n };
}

/** Tells whether `address` lies in `prefix`; never across versions. */
export function prefixContains(prefix: IpPrefix, address: IpAddress): boolean {
  if (prefix.version !== address.version) return false;
  const hostBits = BigInt(ipBits(prefix.version) - prefix.length);
  return prefix.first >> hostBits === address.value >> hostBits;
}

/** Returns the fewest prefixes that cover exactly `range`, in ascending order; none when it is empty. */
export function rangeToPrefixes({ version, first, last }: IpRange): IpPrefix[] {
  const bits = ipBits(version);
  const prefixes: IpPrefix[] = [];
  let next = first;
  while (next <= last) {
    let hostBits = 0;
    for (; hostBits < bits; hostBits++) {
      const size = 1n << BigInt(hostBits + 1);
      if (next % size !== 0n || next + size - 1n > last) break;
    }
    prefixes.push({ version, first: next, length: bits - hostBits });
    next += 1n << BigInt(hostBits);
  }
  return prefixes;
}

function parseIpv4(text: string): bigint | undefined {
  const octets = text.split(".");
  if (octets.length !== 4) return undefined;
  let value = 0n;
  for (const octet of octets) {
    if (!OCTET.test(octet)) return undefined;
    value = (value << 8n) | BigInt(octet);
  }
  return value;
}

function parseIpv6(text: string): bigint | undefined {
  const halves = text.split("::");
  if (halves.length > 2) return undefined;
  const front = parseGroups(halves[0] as string, halves.length === 1);
  const back = halves.length === 1 ? [] : parseGroups(halves[1] as string, true);
  if (front === undefined || back === undefined) return undefined;
  const missing = 8 - front.length - back.length;
  // RFC 4291 §2.2: "::" stands for one group of zeros or more.
  if (halves.length === 1 ? missing !== 0 : missing < 1) return undefined;
  let value = 0n;
  for (const group of front) value = (value << 16n) | group;
  value <<= BigInt(16 * missing);
  for (const group of back) value = (value << 16n) | group;
  return value;
}

/** Groups of 16 bits between colons; the last two may stand as IPv4 where the address ends. */
function parseGroups(text: string, endsAddress: boolean): bigint[] | undefined {
  if (text === "") return [];
  const groups: bigint[] = [];
  const parts = text.split(":");
  for (const [i, part] of parts.entries()) {
    if (endsAddress && i === parts.length - 1 && part.includes(".")) {
      const ipv4 = parseIpv4(part);
      if (ipv4 === undefined) return undefined;
      groups.push(ipv4 >> 16n, ipv4 & 0xffffn);
    } else {
      if (!GROUP.test(part)) return undefined;
      groups.push(BigInt(`0x${part}`));
    }
  }
  return groups;
}

function formatIpv4(value: bigint): string {
  const number = Number(value);
  return `${number >>> 24}.${(number >>> 16) & 0xff}.${(number >>> 8) & 0xff}.${number & 0xff}`;
}

/** RFC 5952 §4.2: the longest run of zero groups, the first of equals. */
function longestZeroRun(groups: readonly string[]): { start: number; length: number } {
  let best = { start: 0, length: 0 };
  for (let start = 0; start < groups.length; start++) {
    let length = 0;
    while (groups[start + length] === "0") length++;
    if (length > best.length) best = { start, length };
  }
  return best;
}
