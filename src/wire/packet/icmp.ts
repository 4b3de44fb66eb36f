/**
 * ICMP (RFC 792) and ICMPv6 (RFC 4443) errors: making one about a packet, and finding the packet that one is about.
 *
 *   | IP header | Type | Code | Checksum | MTU or zero (32 bits) | the packet, as much of it as fits |
 */
import { type IpAddress, ipToBytes } from "../../base/ip.ts";
import { internetChecksum, transportChecksum, writeIpv4Checksum } from "./checksum.ts";
import { type PacketView, PROTOCOL_ICMP, PROTOCOL_ICMPV6, readQuotedPacket } from "./packet_view.ts";

/** What went wrong with a packet. */
export type IcmpError =
  /** It is longer than the next link takes. */
  | { readonly kind: "packet_too_big"; readonly mtu: number }
  /** The policy rejects it. */
  | { readonly kind: "prohibited" }
  /** Nothing leads to its destination. */
  | { readonly kind: "no_route" }
  /** Its destination does not answer. */
  | { readonly kind: "host_unreachable" }
  /** Nobody is at that port of its destination. */
  | { readonly kind: "port_unreachable" }
  /** It has no hops left. */
  | { readonly kind: "time_exceeded" };

/** A packet in a buffer, with its fields. */
export interface LocatedPacket {
  readonly bytes: Uint8Array;
  readonly start: number;
  readonly end: number;
  readonly view: PacketView;
}

/** Type and code per version. */
const CODES = {
  packet_too_big: { 4: [3, 4], 6: [2, 0] },
  prohibited: { 4: [3, 13], 6: [1, 1] },
  no_route: { 4: [3, 0], 6: [1, 0] },
  host_unreachable: { 4: [3, 1], 6: [1, 3] },
  port_unreachable: { 4: [3, 3], 6: [1, 4] },
  time_exceeded: { 4: [11, 0], 6: [3, 0] },
} as const;

const IPV4_HEADER = 20;
const IPV6_HEADER = 40;
const ICMP_HEADER = 8;
/** RFC 1812 §4.3.2.3: an ICMP error is no longer than 576 bytes. */
const MAX_IPV4_QUOTE = 576 - IPV4_HEADER - ICMP_HEADER;
/** RFC 4443 §2.4: an ICMPv6 error is no longer than the smallest MTU of IPv6. */
const MAX_IPV6_QUOTE = 1280 - IPV6_HEADER - ICMP_HEADER;
const HOP_LIMIT = 64;
/** Traffic class of network control, which RFC 1812 §4.3.2.5 gives to ICMP errors. */
const NETWORK_CONTROL = 0xc0;
const DONT_FRAGMENT = 0x40;
/** The MTU field of ICMP has 16 bits. */
const MAX_IPV4_MTU = 0xffff;
const IPV6_REDIRECT = 137;

/**
 * Makes the error that tells the sender of a packet what went wrong, from an address of ours. Returns `undefined` where
 * no error may be sent, and when `from` is of the other version.
 */
export function encodeIcmpError(
  packet: LocatedPacket,
  error: IcmpError,
  from: IpAddress,
): Uint8Array<ArrayBuffer> | undefined {
  const { bytes, start, end, view } = packet;
  if (from.version !== view.version || !mayBeAnswered(view)) return undefined;
  const ipv4 = view.version === 4;
  const header = ipv4 ? IPV4_HEADER : IPV6_HEADER;
  const quoteEnd = Math.min(end, start + (ipv4 ? MAX_IPV4_QUOTE : MAX_IPV6_QUOTE));
  const message = new Uint8Array(header + ICMP_HEADER + quoteEnd - start);
  const out = new DataView(message.buffer);
  const [type, code] = CODES[error.kind][view.version];
  message[header] = type;
  message[header + 1] = code;
  if (error.kind === "packet_too_big") {
    out.setUint32(header + 4, ipv4 ? Math.min(error.mtu, MAX_IPV4_MTU) : error.mtu);
  }
  message.set(bytes.subarray(start, quoteEnd), header + ICMP_HEADER);
  if (ipv4) {
    message.set([0x45, NETWORK_CONTROL]);
    out.setUint16(2, message.length);
    message[6] = DONT_FRAGMENT;
    message[8] = HOP_LIMIT;
    message[9] = PROTOCOL_ICMP;
    message.set(ipToBytes(from), 12);
    out.setUint32(16, view.src3);
    writeIpv4Checksum(message, 0);
    out.setUint16(header + 2, internetChecksum(message, header, message.length));
  } else {
    out.setUint16(0, 0x6000 | (NETWORK_CONTROL << 4));
    out.setUint16(4, message.length - IPV6_HEADER);
    message[6] = PROTOCOL_ICMPV6;
    message[7] = HOP_LIMIT;
    message.set(ipToBytes(from), 8);
    message.set(bytes.subarray(start + 8, start + 24), 24);
    const upper = { version: 6, headerLength: IPV6_HEADER, protocol: PROTOCOL_ICMPV6 } as const;
    out.setUint16(header + 2, transportChecksum(message, 0, message.length, upper));
  }
  return message;
}

/**
 * Fills `inner` from the packet that an ICMP or ICMPv6 error quotes, as far as addresses, protocol and ports. Returns
 * false when `view` is no such error: unreachable, too big, time exceeded or parameter problem. Redirects and source
 * quenches are none, since nobody may steer a tunnel's hosts with them.
 */
// deno-lint-ignore ginnel/few-parameters -- called per packet: an options object would be an allocation
export function innerOfIcmpError(
  bytes: Uint8Array,
  start: number,
  end: number,
  view: PacketView,
  inner: PacketView,
): boolean {
  // A later fragment has no type, so it is no error.
  return isForwardableError(view) &&
    readQuotedPacket(bytes, start + view.headerLength + ICMP_HEADER, end, inner) &&
    inner.version === view.version;
}

/** The errors that concern a flow. */
function isForwardableError({ version, protocol, icmpType }: PacketView): boolean {
  if (version === 4) {
    return protocol === PROTOCOL_ICMP && (icmpType === 3 || icmpType === 11 || icmpType === 12);
  }
  return protocol === PROTOCOL_ICMPV6 && icmpType >= 1 && icmpType <= 4;
}

function mayBeAnswered(view: PacketView): boolean {
  // RFC 1122 §3.2.2 and RFC 4443 §2.4: never about an error, else two hosts could keep each other busy.
  if (isError(view)) return false;
  // RFC 1122 §3.2.2: only about the first fragment.
  if (view.fragmentOffset > 0) return false;
  // RFC 1122 §3.2.2 and RFC 4443 §2.4: only to one host, and not about a packet that went to many.
  return view.version === 4
    ? isSingleIpv4(view.src3) && !isManyIpv4(view.dst3)
    : isSingleIpv6(view) && view.dst0 >>> 24 !== 0xff;
}

/** Every error, redirects included. */
function isError({ version, protocol, icmpType }: PacketView): boolean {
  if (version === 6) return protocol === PROTOCOL_ICMPV6 && (icmpType < 128 || icmpType === IPV6_REDIRECT);
  return protocol === PROTOCOL_ICMP &&
    (icmpType === 3 || icmpType === 4 || icmpType === 5 || icmpType === 11 || icmpType === 12);
}

/** Not 0/8 (this network), 127/8 (loopback), 224/4 (multicast) or 240/4 (class E, with broadcast). */
function isSingleIpv4(address: number): boolean {
  const first = address >>> 24;
  return first !== 0 && first !== 127 && first < 224;
}

function isManyIpv4(address: number): boolean {
  return address >>> 28 === 0xe || address === 0xffff_ffff;
}

/** Not ::, ::1 or multicast. */
function isSingleIpv6({ src0, src1, src2, src3 }: PacketView): boolean {
  return src0 >>> 24 !== 0xff && !(src0 === 0 && src1 === 0 && src2 === 0 && src3 <= 1);
}
