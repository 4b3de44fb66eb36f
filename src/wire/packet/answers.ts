/**
 * Packets that answer packets: UDP datagrams and echo replies from where the question went to where it came from, and the
 * reset of a TCP connection that there is not (RFC 9293 §3.10.7.1).
 */
import { internetChecksum, transportChecksum, writeIpv4Checksum } from "./checksum.ts";
import type { LocatedPacket } from "./icmp.ts";
import { PROTOCOL_ICMP, PROTOCOL_ICMPV6, PROTOCOL_TCP, PROTOCOL_UDP } from "./packet_view.ts";

/** Where the packets of an answer go from and to, in the form of a packet's header. */
export interface AnswerEnds {
  readonly version: 4 | 6;
  /** Source and destination, as they stand in the packet. */
  readonly addresses: Uint8Array;
  /** Zero for echo replies. */
  readonly srcPort: number;
  readonly dstPort: number;
}

/** Bytes in front of the payload of an answer over UDP. */
export const UDP_HEADERS = { 4: 28, 6: 48 } as const;

/** Bytes in front of the identifier of an echo reply. */
export const ECHO_HEADERS = { 4: 24, 6: 44 } as const;

/** The ends of an answer to a packet. */
export function answerEnds({ bytes, start, view }: LocatedPacket): AnswerEnds {
  const { version, srcPort, dstPort } = view;
  const [at, length] = version === 4 ? [start + 12, 4] : [start + 8, 16];
  const addresses = new Uint8Array(2 * length);
  addresses.set(bytes.subarray(at + length, at + 2 * length));
  addresses.set(bytes.subarray(at, at + length), length);
  return { version, addresses, srcPort: dstPort, dstPort: srcPort };
}

/** Writes headers in front of a UDP payload that ends at `end`; {@linkcode UDP_HEADERS} says where it begins. */
// deno-lint-ignore ginnel/few-parameters -- called per packet: an options object would be an allocation
export function writeUdpHeaders(bytes: Uint8Array, start: number, end: number, ends: AnswerEnds): void {
  const { version, srcPort, dstPort } = ends;
  const udp = start + UDP_HEADERS[version] - 8;
  put16(bytes, udp, srcPort);
  put16(bytes, udp + 2, dstPort);
  put16(bytes, udp + 4, end - udp);
  put16(bytes, udp + 6, 0);
  writeIpHeader(bytes, start, end, ends, PROTOCOL_UDP);
  const upper = version === 4 ? UDP_UPPER4 : UDP_UPPER6;
  // RFC 768: a sum of zero is written as all ones, since zero says that there is none.
  put16(bytes, udp + 6, transportChecksum(bytes, start, end, upper) || 0xffff);
}

/** Writes headers in front of an echo reply whose message, from the identifier on, ends at `end`. */
// deno-lint-ignore ginnel/few-parameters -- called per packet: an options object would be an allocation
export function writeEchoReply(bytes: Uint8Array, start: number, end: number, ends: AnswerEnds): void {
  const { version } = ends;
  const icmp = start + ECHO_HEADERS[version] - 4;
  bytes[icmp] = version === 4 ? ECHO_REPLY : ECHO_REPLY6;
  bytes[icmp + 1] = 0;
  put16(bytes, icmp + 2, 0);
  if (version === 4) {
    writeIpHeader(bytes, start, end, ends, PROTOCOL_ICMP);
    put16(bytes, icmp + 2, internetChecksum(bytes, icmp, end));
  } else {
    writeIpHeader(bytes, start, end, ends, PROTOCOL_ICMPV6);
    put16(bytes, icmp + 2, transportChecksum(bytes, start, end, ICMP_UPPER6));
  }
}

/**
 * Makes the reset that tells the sender of a TCP packet that there is no such connection; undefined where none may be sent:
 * a reset is never answered.
 */
export function encodeTcpReset(packet: LocatedPacket): Uint8Array<ArrayBuffer> | undefined {
  const { bytes, start, end, view } = packet;
  if ((view.tcpFlags & RST) !== 0 || view.fragmentOffset > 0) return undefined;
  const ends = answerEnds(packet);
  const header = view.version === 4 ? 20 : 40;
  const reset = new Uint8Array(header + 20);
  const asked = start + view.headerLength;
  put16(reset, header, ends.srcPort);
  put16(reset, header + 2, ends.dstPort);
  reset[header + 12] = 5 << 4;
  if ((view.tcpFlags & ACK) !== 0) {
    // RFC 9293 §3.10.7.1: the reset takes its sequence number from the acknowledgement.
    reset.set(bytes.subarray(asked + 8, asked + 12), header + 4);
    reset[header + 13] = RST;
  } else {
    const length = end - asked - (bytes[asked + 12]! >> 4) * 4 + (view.tcpFlags & SYN ? 1 : 0) +
      (view.tcpFlags & FIN ? 1 : 0);
    const sequence = new DataView(bytes.buffer, bytes.byteOffset + asked + 4, 4).getUint32(0);
    new DataView(reset.buffer).setUint32(header + 8, sequence + length);
    reset[header + 13] = RST | ACK;
  }
  writeIpHeader(reset, 0, reset.length, ends, PROTOCOL_TCP);
  const upper = { version: view.version, headerLength: header, protocol: PROTOCOL_TCP };
  put16(reset, header + 16, transportChecksum(reset, 0, reset.length, upper));
  return reset;
}

const FIN = 1;
const SYN = 2;
const RST = 4;
const ACK = 16;
const ECHO_REPLY = 0;
const ECHO_REPLY6 = 129;
const HOP_LIMIT = 64;
const DONT_FRAGMENT = 0x40;
const UDP_UPPER4 = { version: 4, headerLength: 20, protocol: PROTOCOL_UDP } as const;
const UDP_UPPER6 = { version: 6, headerLength: 40, protocol: PROTOCOL_UDP } as const;
const ICMP_UPPER6 = { version: 6, headerLength: 40, protocol: PROTOCOL_ICMPV6 } as const;

function writeIpHeader(
  bytes: Uint8Array,
  start: number,
  end: number,
  { version, addresses }: AnswerEnds,
  protocol: number,
): void {
  const header = version === 4 ? 20 : 40;
  bytes.fill(0, start, start + header);
  if (version === 4) {
    bytes[start] = 0x45;
    put16(bytes, start + 2, end - start);
    // RFC 6864 §4.1: what is never fragmented needs no identifier.
    bytes[start + 6] = DONT_FRAGMENT;
    bytes[start + 8] = HOP_LIMIT;
    bytes[start + 9] = protocol;
    bytes.set(addresses, start + 12);
    writeIpv4Checksum(bytes, start);
  } else {
    bytes[start] = 0x60;
    put16(bytes, start + 4, end - start - 40);
    bytes[start + 6] = protocol;
    bytes[start + 7] = HOP_LIMIT;
    bytes.set(addresses, start + 8);
  }
}

function put16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >> 8;
  bytes[at + 1] = value;
}
