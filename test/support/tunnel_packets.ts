/** What tests do with the packets of `test/dataplane/tunnel/packets.ts` that real kernels are to take. */

import { formatIp, ipFromBytes } from "../../src/base/ip.ts";
import { internetChecksum, transportChecksum } from "../../src/wire/packet/checksum.ts";

const CHECKSUM_OFFSETS: Readonly<Record<number, number>> = { 1: 2, 6: 16, 17: 6, 58: 2 };
const ICMP = 1;
const UDP = 17;

/** Returns the packet, which has no extension headers, with the right checksum of its TCP, UDP, ICMP or ICMPv6 part. */
export function sealed(packet: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const version = packet[0]! >> 4 === 6 ? 6 : 4;
  const protocol = packet[version === 4 ? 9 : 6]!;
  const headerLength = version === 4 ? 20 : 40;
  const offset = CHECKSUM_OFFSETS[protocol];
  if (offset === undefined) return packet;
  const view = new DataView(packet.buffer, packet.byteOffset, packet.length);
  view.setUint16(headerLength + offset, 0);
  const sum = version === 4 && protocol === ICMP
    // ICMP has no pseudo-header.
    ? internetChecksum(packet, headerLength, packet.length)
    : transportChecksum(packet, 0, packet.length, { version, headerLength, protocol });
  view.setUint16(headerLength + offset, sum);
  return packet;
}

/** The text that a UDP packet carries. */
export function textOf(packet: Uint8Array): string {
  return new TextDecoder().decode(packet.subarray((packet[0]! >> 4 === 6 ? 40 : 20) + 8));
}

/** Who sent a packet, and its UDP text or the type of its ICMP message: `192.0.2.1 protocol 1: 3`. */
export function describePacket(packet: Uint8Array): string {
  const isV6 = packet[0]! >> 4 === 6;
  const from = formatIp(ipFromBytes(isV6 ? packet.subarray(8, 24) : packet.subarray(12, 16)));
  const protocol = packet[isV6 ? 6 : 9]!;
  return `${from} protocol ${protocol}: ${protocol === UDP ? textOf(packet) : packet[isV6 ? 40 : 20]}`;
}
