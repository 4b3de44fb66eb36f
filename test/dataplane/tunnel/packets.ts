/** Makes IP packets for the tunnel's tests, checksums of IPv4 headers right, independent of the codecs under test. */

import { type IpAddress, ipToBytes, parseIp } from "../../../src/base/ip.ts";

/** Numbers of the protocols that the tests use. */
export const TCP = 6;
export const UDP = 17;
export const ICMP = 1;
export const ICMPV6 = 58;

/** The fields of a packet that tests choose; addresses as text. */
export interface PacketInit {
  readonly src: string;
  readonly dst: string;
  readonly protocol?: number;
  readonly payload?: Uint8Array;
  readonly ttl?: number;
  /** IPv4 only; default true. */
  readonly dontFragment?: boolean;
  /** IPv4 only: offset in bytes. */
  readonly fragmentOffset?: number;
  readonly moreFragments?: boolean;
  readonly id?: number;
}

/** Returns the address that a text means; throws where it means none. */
export function ip(text: string): IpAddress {
  const address = parseIp(text);
  if (address === undefined) throw new TypeError(`Cannot read ${text} as an address`);
  return address;
}

/** Makes an IPv4 or IPv6 packet, by the form of its addresses. */
export function packet(init: PacketInit): Uint8Array<ArrayBuffer> {
  return ip(init.src).version === 4 ? ipv4(init) : ipv6(init);
}

/** A UDP packet of `size` bytes of data. */
export function udp(
  init: PacketInit & { readonly srcPort?: number; readonly dstPort?: number; readonly data?: Uint8Array },
): Uint8Array<ArrayBuffer> {
  const data = init.data ?? new Uint8Array(8);
  const payload = new Uint8Array(8 + data.length);
  const view = new DataView(payload.buffer);
  view.setUint16(0, init.srcPort ?? 4_000);
  view.setUint16(2, init.dstPort ?? 9_000);
  view.setUint16(4, payload.length);
  payload.set(data, 8);
  return packet({ ...init, protocol: UDP, payload });
}

/** A TCP packet without options. */
export function tcp(
  init: PacketInit & {
    readonly srcPort?: number;
    readonly dstPort?: number;
    readonly flags?: number;
    readonly data?: Uint8Array;
  },
): Uint8Array<ArrayBuffer> {
  const data = init.data ?? new Uint8Array(0);
  const payload = new Uint8Array(20 + data.length);
  const view = new DataView(payload.buffer);
  view.setUint16(0, init.srcPort ?? 4_000);
  view.setUint16(2, init.dstPort ?? 443);
  payload[12] = 5 << 4;
  payload[13] = init.flags ?? 0x10;
  payload.set(data, 20);
  return packet({ ...init, protocol: TCP, payload });
}

/** An echo request, or its reply. */
export function echo(
  init: PacketInit & { readonly id?: number; readonly reply?: boolean; readonly size?: number },
): Uint8Array<ArrayBuffer> {
  const isV4 = ip(init.src).version === 4;
  const payload = new Uint8Array(8 + (init.size ?? 56));
  payload[0] = isV4 ? (init.reply ? 0 : 8) : (init.reply ? 129 : 128);
  new DataView(payload.buffer).setUint16(4, init.id ?? 77);
  const { id: _id, ...rest } = init;
  return packet({ ...rest, protocol: isV4 ? ICMP : ICMPV6, payload });
}

/** An ICMP error that quotes a packet; the type defaults to destination unreachable. */
export function icmpError(
  init: PacketInit & { readonly quoted: Uint8Array; readonly type?: number; readonly code?: number },
): Uint8Array<ArrayBuffer> {
  const isV4 = ip(init.src).version === 4;
  const quoted = init.quoted.subarray(0, 520);
  const payload = new Uint8Array(8 + quoted.length);
  payload[0] = init.type ?? (isV4 ? 3 : 1);
  payload[1] = init.code ?? (isV4 ? 3 : 4);
  payload.set(quoted, 8);
  return packet({ ...init, protocol: isV4 ? ICMP : ICMPV6, payload });
}

/** What a test asks about a packet. */
export interface PacketFacts {
  readonly version: number;
  readonly src: string;
  readonly dst: string;
  readonly protocol: number;
  readonly ttl: number;
  /** First byte behind the IP header: the type of an ICMP message. */
  readonly type: number;
  readonly code: number;
  readonly length: number;
  /** Whether the IPv4 header's checksum is right; true for IPv6. */
  readonly isSound: boolean;
}

/** Reads the facts of a packet without options or extension headers. */
export function facts(bytes: Uint8Array): PacketFacts {
  const version = bytes[0]! >> 4;
  const text = (at: number, size: number) =>
    size === 4
      ? [...bytes.subarray(at, at + 4)].join(".")
      : [...bytes.subarray(at, at + 16)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  const header = version === 4 ? 20 : 40;
  return {
    version,
    src: version === 4 ? text(12, 4) : text(8, 16),
    dst: version === 4 ? text(16, 4) : text(24, 16),
    protocol: bytes[version === 4 ? 9 : 6]!,
    ttl: bytes[version === 4 ? 8 : 7]!,
    type: bytes[header]!,
    code: bytes[header + 1]!,
    length: bytes.length,
    isSound: version !== 4 || sum(bytes.subarray(0, 20)) === 0xffff,
  };
}

function ipv4(init: PacketInit): Uint8Array<ArrayBuffer> {
  const payload = init.payload ?? new Uint8Array(8);
  const bytes = new Uint8Array(20 + payload.length);
  const view = new DataView(bytes.buffer);
  bytes[0] = 0x45;
  view.setUint16(2, bytes.length);
  view.setUint16(4, init.id ?? 0);
  const flags = (init.dontFragment ?? true ? 0x4000 : 0) | (init.moreFragments ? 0x2000 : 0);
  view.setUint16(6, flags | (init.fragmentOffset ?? 0) / 8);
  bytes[8] = init.ttl ?? 64;
  bytes[9] = init.protocol ?? UDP;
  bytes.set(ipToBytes(ip(init.src)), 12);
  bytes.set(ipToBytes(ip(init.dst)), 16);
  view.setUint16(10, ~sum(bytes.subarray(0, 20)) & 0xffff);
  bytes.set(payload, 20);
  return bytes;
}

function ipv6(init: PacketInit): Uint8Array<ArrayBuffer> {
  const payload = init.payload ?? new Uint8Array(8);
  const bytes = new Uint8Array(40 + payload.length);
  bytes[0] = 0x60;
  new DataView(bytes.buffer).setUint16(4, payload.length);
  bytes[6] = init.protocol ?? UDP;
  bytes[7] = init.ttl ?? 64;
  bytes.set(ipToBytes(ip(init.src)), 8);
  bytes.set(ipToBytes(ip(init.dst)), 24);
  bytes.set(payload, 40);
  return bytes;
}

/** The ones' complement sum of 16-bit words. */
function sum(bytes: Uint8Array): number {
  let total = 0;
  for (let i = 0; i < bytes.length; i += 2) total += bytes[i]! << 8 | (bytes[i + 1] ?? 0);
  while (total > 0xffff) total = (total & 0xffff) + (total >>> 16);
  return total;
}
