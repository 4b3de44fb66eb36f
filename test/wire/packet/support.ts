/**
 * Builds IP packets for tests, with a checksum routine of its own, so that the codecs are not tested against themselves.
 */
import assert from "node:assert/strict";
import { concat } from "../../../src/base/bytes.ts";
import { ipToBytes, parseIp } from "../../../src/base/ip.ts";
import {
  newPacketView,
  type PacketFault,
  type PacketView,
  readPacket,
} from "../../../src/wire/packet/packet_view.ts";

export interface PacketFields {
  readonly src?: string;
  readonly dst?: string;
  readonly protocol?: number;
  readonly ttl?: number;
  readonly payload?: Uint8Array;
}

export interface Ipv4Fields extends PacketFields {
  readonly options?: Uint8Array;
  /** Flags and fragment offset as they stand in the header. */
  readonly fragment?: number;
  readonly id?: number;
}

/** An IPv4 packet with its right checksum. */
export function ipv4Packet(fields: Ipv4Fields = {}): Uint8Array<ArrayBuffer> {
  const { src = "192.0.2.1", dst = "198.51.100.7", protocol = 17, ttl = 64, payload = udp({}) } = fields;
  const { options = new Uint8Array(), fragment = 0x4000, id = 7 } = fields;
  const headerLength = 20 + options.length;
  const total = headerLength + payload.length;
  const header = concat([
    Uint8Array.of(0x40 | (headerLength / 4), 0, total >> 8, total, id >> 8, id, fragment >> 8, fragment),
    Uint8Array.of(ttl, protocol, 0, 0),
    address(src),
    address(dst),
    options,
  ]);
  header.set(slowChecksum(header), 10);
  return concat([header, payload]);
}

/** An IPv6 packet; `payload` begins with the first extension header when `protocol` names one. */
export function ipv6Packet(fields: PacketFields = {}): Uint8Array<ArrayBuffer> {
  const { src = "2001:db8::1", dst = "2001:db8:1::7", protocol = 17, ttl = 64, payload = udp({}) } = fields;
  return concat([
    Uint8Array.of(0x60, 0, 0, 0, payload.length >> 8, payload.length, protocol, ttl),
    address(src),
    address(dst),
    payload,
  ]);
}

/** A UDP datagram with a checksum of zero. */
export function udp(
  { srcPort = 5_000, dstPort = 53, data = new Uint8Array() }: {
    srcPort?: number;
    dstPort?: number;
    data?: Uint8Array;
  },
): Uint8Array<ArrayBuffer> {
  const length = 8 + data.length;
  return concat([
    Uint8Array.of(srcPort >> 8, srcPort, dstPort >> 8, dstPort, length >> 8, length, 0, 0),
    data,
  ]);
}

/** A TCP segment without options and checksum. */
export function tcp(
  { srcPort = 5_000, dstPort = 443, flags = 0x02, data = new Uint8Array() }: {
    srcPort?: number;
    dstPort?: number;
    flags?: number;
    data?: Uint8Array;
  },
): Uint8Array<ArrayBuffer> {
  const header = new Uint8Array(20);
  header.set([srcPort >> 8, srcPort, dstPort >> 8, dstPort]);
  header.set([0x50, flags], 12);
  return concat([header, data]);
}

/** An ICMP or ICMPv6 message without checksum; the second half of its header, then data. */
export function icmp(
  { type, code = 0, rest = new Uint8Array(4), data = new Uint8Array() }: {
    type: number;
    code?: number;
    rest?: Uint8Array;
    data?: Uint8Array;
  },
): Uint8Array<ArrayBuffer> {
  return concat([Uint8Array.of(type, code, 0, 0), rest, data]);
}

/** RFC 1071 word by word, as two bytes; the bytes it covers hold zero where it goes. */
export function slowChecksum(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  let sum = 0n;
  for (let i = 0; i < bytes.length; i += 2) {
    sum += BigInt((bytes[i] ?? 0) * 256 + (bytes[i + 1] ?? 0));
    if (sum > 0xffffn) sum = sum - 0x10000n + 1n;
  }
  const checksum = 0xffff - Number(sum);
  return Uint8Array.of(checksum >> 8, checksum);
}

/** The pseudo-header of an IPv6 upper-layer part (RFC 8200 §8.1) followed by that part. */
export function withPseudoHeader6(packet: Uint8Array, protocol: number): Uint8Array<ArrayBuffer> {
  const upper = packet.subarray(40);
  return concat([
    packet.subarray(8, 40),
    Uint8Array.of(0, 0, upper.length >> 8, upper.length, 0, 0, 0, protocol),
    upper,
  ]);
}

function address(text: string): Uint8Array<ArrayBuffer> {
  const parsed = parseIp(text);
  if (parsed === undefined) throw new Error(`${text} is no address`);
  return ipToBytes(parsed);
}

/** What readPacket() says of a packet. */
export function fault(packet: Uint8Array): PacketFault | undefined {
  return readPacket(packet, 0, packet.length, newPacketView());
}

/** The view of a packet that is fine. */
export function read(packet: Uint8Array): PacketView {
  const view = newPacketView();
  assert.equal(readPacket(packet, 0, packet.length, view), undefined);
  return view;
}

/** A copy with some bytes changed. */
export function patchedBytes(
  bytes: Uint8Array,
  patch: Readonly<Record<number, number>>,
): Uint8Array<ArrayBuffer> {
  const copy = bytes.slice();
  for (const [at, value] of Object.entries(patch)) if (Number(at) < copy.length) copy[Number(at)] = value;
  return copy;
}

/** Gives what looks like IPv4 its right checksum, so that a changed byte is not refused for that alone. */
export function withIpv4Checksum<T extends Uint8Array>(packet: T): T {
  const length = (packet[0]! & 0x0f) * 4;
  if (packet[0]! >> 4 !== 4 || length < 20 || length > packet.length) return packet;
  packet.set([0, 0], 10);
  packet.set(slowChecksum(packet.subarray(0, length)), 10);
  return packet;
}

/** An extension header of eight bytes. */
export function extension(next: number): Uint8Array<ArrayBuffer> {
  return Uint8Array.of(next, 0, 0, 0, 0, 0, 0, 0);
}

/** A fragment header of IPv6. */
export function fragment(
  { next, offset = 0, more = false, id = 1 }: { next: number; offset?: number; more?: boolean; id?: number },
): Uint8Array<ArrayBuffer> {
  const header = new Uint8Array(8);
  header[0] = next;
  new DataView(header.buffer).setUint16(2, offset | (more ? 1 : 0));
  new DataView(header.buffer).setUint32(4, id);
  return header;
}

/** An IPv6 packet that is a fragment. */
export function ipv6Fragment(
  header: Parameters<typeof fragment>[0],
  payload: Uint8Array,
): Uint8Array<ArrayBuffer> {
  return ipv6Packet({ protocol: 44, payload: concat([fragment(header), payload]) });
}
