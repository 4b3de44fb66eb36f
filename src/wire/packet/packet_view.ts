/**
 * What the tunnel needs to know of an IPv4 (RFC 791) or IPv6 (RFC 8200) packet, in one reused object: filling it allocates
 * nothing. Packets that may mean one thing to a filter and another to the host behind it are faults.
 */
import { FRAGMENT, readIpHeader, readUint16 } from "./ip_header.ts";

/** Why a packet is refused. */
export type PacketFault = "truncated" | "bad_version" | "bad_length" | "bad_header" | "bad_checksum";

/**
 * A packet's fields. Addresses are four 32-bit words each, unsigned; an IPv4 address stands IPv4-mapped
 * (0, 0, 0xffff, address), so that one key serves both versions.
 */
export interface PacketView {
  version: 4 | 6;
  /** Bytes before the upper-layer header, extension headers included. */
  headerLength: number;
  /** Bytes of the whole packet. */
  totalLength: number;
  /** The upper-layer protocol, behind extension headers. */
  protocol: number;
  /** TTL or hop limit. */
  ttl: number;
  src0: number;
  src1: number;
  src2: number;
  src3: number;
  dst0: number;
  dst1: number;
  dst2: number;
  dst3: number;
  /** Source port of TCP and UDP; identifier of an ICMP echo; else 0. */
  srcPort: number;
  /** Destination port of TCP and UDP; identifier of an ICMP echo; else 0. */
  dstPort: number;
  /** ICMP and ICMPv6 only; else 0. */
  icmpType: number;
  icmpCode: number;
  /** TCP only; else 0. */
  tcpFlags: number;
  /** Offset of a fragment in bytes; 0 for a whole packet or the first fragment. */
  fragmentOffset: number;
  moreFragments: boolean;
  fragmentId: number;
  /** IPv4 DF; always true for IPv6, which routers never fragment. */
  dontFragment: boolean;
}

/** A view to fill and fill again. */
export function newPacketView(): PacketView {
  return {
    version: 4,
    headerLength: 0,
    totalLength: 0,
    protocol: 0,
    ttl: 0,
    src0: 0,
    src1: 0,
    src2: 0,
    src3: 0,
    dst0: 0,
    dst1: 0,
    dst2: 0,
    dst3: 0,
    srcPort: 0,
    dstPort: 0,
    icmpType: 0,
    icmpCode: 0,
    tcpFlags: 0,
    fragmentOffset: 0,
    moreFragments: false,
    fragmentId: 0,
    dontFragment: false,
  };
}

/** Internet Protocol Numbers that the tunnel looks into. */
export const PROTOCOL_ICMP = 1;
export const PROTOCOL_TCP = 6;
export const PROTOCOL_UDP = 17;
export const PROTOCOL_ICMPV6 = 58;

const TCP_HEADER = 20;
const UDP_HEADER = 8;
/** The part of ICMP and ICMPv6 messages that all have; where an error quotes a packet, as much of that. */
const ICMP_HEADER = 8;

/**
 * Fills `view` from the packet that lies from `start` to `end` and nothing but it. After a fault, the view holds no
 * meaning. A transport header must be whole in the first fragment, and no later one may reach back into it.
 */
// deno-lint-ignore ginnel/few-parameters -- called per packet: an options object would be an allocation
export function readPacket(
  bytes: Uint8Array,
  start: number,
  end: number,
  view: PacketView,
): PacketFault | undefined {
  return readIpHeader(bytes, start, end, view, true) ??
    readTransport(bytes, start + view.headerLength, end, view);
}

/**
 * Fills `view` from the beginning of a packet, as an ICMP error quotes it: whatever is behind the ports may be missing,
 * and lengths and checksum need not be right. Returns false when even addresses, protocol and ports are not there.
 */
// deno-lint-ignore ginnel/few-parameters -- the same form as readPacket()
export function readQuotedPacket(bytes: Uint8Array, start: number, end: number, view: PacketView): boolean {
  if (readIpHeader(bytes, start, end, view, false) !== undefined) return false;
  clearTransport(view);
  const offset = start + view.headerLength;
  if (view.fragmentOffset > 0 || !hasPortsOrType(view)) return true;
  if (end - offset < ICMP_HEADER) return false;
  readPorts(bytes, offset, view);
  return true;
}

/**
 * Takes one hop off the TTL or hop limit of a packet that {@linkcode readPacket} took, and keeps the checksum of IPv4
 * right (RFC 1624). Returns false, and changes nothing, when none would be left.
 */
export function decrementTtl(bytes: Uint8Array, start: number): boolean {
  const ipv4 = bytes[start]! >> 4 === 4;
  const at = start + (ipv4 ? 8 : 7);
  const ttl = bytes[at]!;
  if (ttl <= 1) return false;
  bytes[at] = ttl - 1;
  if (ipv4) {
    // One less in the high byte of a word is one more there in the complement of the sum.
    const sum = readUint16(bytes, start + 10) + 0x0100;
    const checksum = sum >= 0xffff ? sum + 1 : sum;
    bytes[start + 10] = checksum >> 8;
    bytes[start + 11] = checksum;
  }
  return true;
}

/** Tells whether what begins like a packet is one of several fragments; a header in front of that of IPv6 hides it. */
export function isFragment(bytes: Uint8Array, start: number): boolean {
  const version = bytes[start]! >> 4;
  if (version === 6) return bytes[start + 6] === FRAGMENT;
  return version === 4 && (readUint16(bytes, start + 6) & 0x3fff) !== 0;
}

function readTransport(
  bytes: Uint8Array,
  offset: number,
  end: number,
  view: PacketView,
): PacketFault | undefined {
  clearTransport(view);
  if (view.fragmentOffset > 0) {
    // A later fragment could put other flags into the TCP header that was judged (RFC 3128).
    return view.protocol === PROTOCOL_TCP && view.fragmentOffset < TCP_HEADER ? "bad_header" : undefined;
  }
  if (!hasPortsOrType(view)) return undefined;
  const available = end - offset;
  if (available < (view.protocol === PROTOCOL_TCP ? TCP_HEADER : UDP_HEADER)) return "truncated";
  readPorts(bytes, offset, view);
  if (view.protocol === PROTOCOL_TCP) {
    view.tcpFlags = bytes[offset + 13]!;
    const headerLength = (bytes[offset + 12]! >> 4) * 4;
    if (headerLength < TCP_HEADER || headerLength > available) return "bad_header";
  } else if (view.protocol === PROTOCOL_UDP) {
    const length = readUint16(bytes, offset + 4);
    if (length < UDP_HEADER || (length > available && !view.moreFragments)) return "bad_length";
  }
  return undefined;
}

function clearTransport(view: PacketView): void {
  view.srcPort = 0;
  view.dstPort = 0;
  view.icmpType = 0;
  view.icmpCode = 0;
  view.tcpFlags = 0;
}

/** ICMP counts only in the version it belongs to: elsewhere it is a protocol like any unknown one. */
function hasPortsOrType({ protocol, version }: PacketView): boolean {
  return protocol === PROTOCOL_TCP || protocol === PROTOCOL_UDP ||
    protocol === (version === 4 ? PROTOCOL_ICMP : PROTOCOL_ICMPV6);
}

/** Reads what stands in the first eight bytes of TCP, UDP, ICMP and ICMPv6. */
function readPorts(bytes: Uint8Array, offset: number, view: PacketView): void {
  if (view.protocol === PROTOCOL_TCP || view.protocol === PROTOCOL_UDP) {
    view.srcPort = readUint16(bytes, offset);
    view.dstPort = readUint16(bytes, offset + 2);
    return;
  }
  view.icmpType = bytes[offset]!;
  view.icmpCode = bytes[offset + 1]!;
  if (isEcho(view)) {
    view.srcPort = readUint16(bytes, offset + 4);
    view.dstPort = view.srcPort;
  }
}

function isEcho({ version, icmpType }: PacketView): boolean {
  return version === 4 ? icmpType === 0 || icmpType === 8 : icmpType === 128 || icmpType === 129;
}
