/**
 * One flow of a client: who talks to whom, what was decided, what has passed. Addresses are signed words and
 * ports one signed word, so that no number is boxed while packets pass.
 */

import { formatIp, ipFromWords } from "../../base/ip.ts";
import type { EgressAction } from "./document.ts";

/** Protocol numbers that this folder knows. */
export const PROTOCOL = { ICMP: 1, TCP: 6, UDP: 17, ICMPV6: 58 } as const;

/** What of a packet decides; any packet view is one. IPv4 addresses stand IPv4-mapped, words are unsigned. */
export interface EgressPacket {
  readonly version: 4 | 6;
  readonly protocol: number;
  readonly totalLength: number;
  readonly src0: number;
  readonly src1: number;
  readonly src2: number;
  readonly src3: number;
  readonly dst0: number;
  readonly dst1: number;
  readonly dst2: number;
  readonly dst3: number;
  /** Of TCP and UDP; the identifier of an ICMP echo. */
  readonly srcPort: number;
  /** Of TCP and UDP; the identifier of an ICMP echo. */
  readonly dstPort: number;
  readonly icmpType: number;
  readonly tcpFlags: number;
  /** In bytes; 0 for a whole packet or the first fragment. */
  readonly fragmentOffset: number;
  readonly moreFragments: boolean;
  readonly fragmentId: number;
}

/** Why a flow is treated as it is. */
export type EgressReason =
  /** A rule matched. */
  | "rule"
  /** No rule matched. */
  | "default_action"
  /** The destination is loopback, link-local, multicast, broadcast or the like, or the relay's own machine. */
  | "not_routable"
  /** A later fragment of a packet whose first fragment was not allowed, or not seen. */
  | "fragment_without_first"
  /** The policy no longer names the client. */
  | "no_rules";

/** What is decided on a flow. */
export interface Verdict {
  readonly action: EgressAction;
  /** Id of the rule that matched; empty when none did. */
  readonly rule: string;
  readonly reason: EgressReason;
}

/** A flow as its owner sees it, for audit and counters. "Out" is from the client. */
export interface FlowEntry extends Verdict {
  readonly version: 4 | 6;
  readonly protocol: number;
  /** Destination port of TCP and UDP; else 0. */
  readonly port: number;
  /** The DNS name that an `fqdn` rule matched; empty without one. */
  readonly name: string;
  /** Address text of the client; made when asked for. */
  readonly source: string;
  /** Address text of the far end; made when asked for. */
  readonly destination: string;
  /** When the first packet came. */
  readonly opened: number;
  readonly packetsOut: number;
  readonly bytesOut: number;
  readonly packetsIn: number;
  readonly bytesIn: number;
  /** True until the owner has written the decision down and clears it; true again when the decision changes. */
  isNew: boolean;
}

/** What a flow's ports mean; flows of different kinds never meet. */
export const FLOW_KIND = { PLAIN: 0, ECHO: 1, STRAY_FRAGMENT: 2 } as const;

/** Version, kind and protocol in one number. */
export function flowMeta(version: 4 | 6, kind: number, protocol: number): number {
  return version | (kind << 4) | (protocol << 8);
}

/** Version, kind and protocol of the flow that a whole packet or a first fragment belongs to. */
export function metaOf(packet: EgressPacket): number {
  const { version, protocol, icmpType } = packet;
  const isEcho = version === 4
    ? protocol === PROTOCOL.ICMP && (icmpType === ECHO_REQUEST_4 || icmpType === ECHO_REPLY_4)
    : protocol === PROTOCOL.ICMPV6 && (icmpType === ECHO_REQUEST_6 || icmpType === ECHO_REPLY_6);
  return flowMeta(version, isEcho ? FLOW_KIND.ECHO : FLOW_KIND.PLAIN, protocol);
}

/** Tells whether an ICMP or ICMPv6 packet answers an echo request. */
export function isEchoReply({ version, icmpType }: EgressPacket): boolean {
  return icmpType === (version === 4 ? ECHO_REPLY_4 : ECHO_REPLY_6);
}

const ECHO_REQUEST_4 = 8;
const ECHO_REPLY_4 = 0;
const ECHO_REQUEST_6 = 128;
const ECHO_REPLY_6 = 129;

/** A flow with all its bookkeeping; the tables beside this file write to it. */
export class Flow implements FlowEntry {
  /** See {@linkcode flowMeta}. */
  readonly meta: number;
  readonly version: 4 | 6;
  readonly protocol: number;
  /** Source port in the upper half, destination port in the lower. */
  readonly ports: number;
  readonly src0: number;
  readonly src1: number;
  readonly src2: number;
  readonly src3: number;
  readonly dst0: number;
  readonly dst1: number;
  readonly dst2: number;
  readonly dst3: number;
  readonly opened: number;

  action: EgressAction = "drop";
  rule = "";
  reason: EgressReason = "no_rules";
  name = "";
  isNew = true;
  packetsOut = 0;
  bytesOut = 0;
  packetsIn = 0;
  bytesIn = 0;

  /** Revision of the client's rules under which it was judged. */
  revision = -1;
  /** Whether the destination lies in a client pool, whose addresses change hands. */
  inPool = false;
  /** Revision of who has which address, for a destination in a pool. */
  peers = 0;
  /** Of TCP: which FINs passed, one bit for each direction. */
  fins = 0;

  /** Hash of the key, kept for growing the table. */
  hash = 0;
  /** Next flow of the same bucket. */
  next: Flow | undefined = undefined;
  /** Which list of equal idle time it is in; -1 when it is in no table. */
  idleClass = -1;
  older: Flow | undefined = undefined;
  newer: Flow | undefined = undefined;
  /** When it was last moved to the end of its list. */
  seen: number;

  /** A flow of a client's own packet. */
  constructor(packet: EgressPacket, { meta, ports, now }: { meta: number; ports: number; now: number }) {
    this.meta = meta;
    this.version = packet.version;
    this.protocol = packet.protocol;
    this.ports = ports;
    this.src0 = packet.src0 | 0;
    this.src1 = packet.src1 | 0;
    this.src2 = packet.src2 | 0;
    this.src3 = packet.src3 | 0;
    this.dst0 = packet.dst0 | 0;
    this.dst1 = packet.dst1 | 0;
    this.dst2 = packet.dst2 | 0;
    this.dst3 = packet.dst3 | 0;
    this.opened = now;
    this.seen = now;
  }

  get kind(): number {
    return (this.meta >>> 4) & 15;
  }

  get port(): number {
    return this.kind === FLOW_KIND.PLAIN ? this.ports & 0xffff : 0;
  }

  get source(): string {
    return formatIp(ipFromWords(this.version, this.src0, this.src1, this.src2, this.src3));
  }

  get destination(): string {
    return formatIp(ipFromWords(this.version, this.dst0, this.dst1, this.dst2, this.dst3));
  }
}
