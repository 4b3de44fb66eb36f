/**
 * What the tunnel needs to know of an IPv4 (RFC 791) or IPv6 (RFC 8200) packet, in one reused object: filling it allocates
 * nothing.
 */

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
