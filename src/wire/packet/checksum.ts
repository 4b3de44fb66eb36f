/**
 * The checksum of IP and of what it carries (RFC 1071), with the pseudo-headers of RFC 793 and RFC 8200 §8.1.
 */
import type { PacketView } from "./packet_view.ts";

const IPV4_ADDRESSES = 12;
const IPV6_ADDRESSES = 8;

/**
 * Returns the checksum of `bytes` from `start` to `end`, on top of a sum of earlier words. Over bytes that hold their right
 * checksum it is 0; over bytes with zero in its place, it is the value to write there.
 */
// deno-lint-ignore ginnel/few-parameters -- called per packet: an options object would be an allocation
export function internetChecksum(bytes: Uint8Array, start: number, end: number, initial = 0): number {
  let sum = sumWords(bytes, start, end) + initial;
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 0x1_0000);
  return ~sum & 0xffff;
}

/** What {@linkcode transportChecksum} needs to know of a packet. */
export type TransportView = Pick<PacketView, "version" | "headerLength" | "protocol">;

/**
 * Returns the checksum of the upper-layer part of the packet from `start` to `end` with its pseudo-header, for TCP, UDP and
 * ICMPv6; as {@linkcode internetChecksum}, 0 where the right one is in place.
 */
// deno-lint-ignore ginnel/few-parameters -- the same form as readPacket()
export function transportChecksum(
  bytes: Uint8Array,
  start: number,
  end: number,
  view: TransportView,
): number {
  const upper = start + view.headerLength;
  const addresses = view.version === 4 ? IPV4_ADDRESSES : IPV6_ADDRESSES;
  const addressesEnd = view.version === 4 ? 20 : 40;
  const pseudoHeader = sumWords(bytes, start + addresses, start + addressesEnd) + view.protocol +
    (end - upper);
  return internetChecksum(bytes, upper, end, pseudoHeader);
}

/** Writes the checksum of the IPv4 header at `start`. */
export function writeIpv4Checksum(bytes: Uint8Array, start: number): void {
  bytes[start + 10] = 0;
  bytes[start + 11] = 0;
  const checksum = internetChecksum(bytes, start, start + (bytes[start]! & 0x0f) * 4);
  bytes[start + 10] = checksum >> 8;
  bytes[start + 11] = checksum;
}

/** Adds words of 16 bits; an odd byte at the end counts as if a zero followed. No packet is long enough to overflow. */
function sumWords(bytes: Uint8Array, start: number, end: number): number {
  let sum = 0;
  let at = start;
  for (; at + 1 < end; at += 2) sum += (bytes[at]! << 8) | bytes[at + 1]!;
  return at < end ? sum + (bytes[at]! << 8) : sum;
}
