/**
 * The packets of one tunnel client. The first packet of a flow is judged by the client's rules, later ones by one
 * hash lookup. Security rests on one thing: only packets that the client sends make flows, so nothing comes in that
 * it did not ask for, and whatever loses its right loses it for both directions. (The one exception, connections that
 * a restart made the relay forget, is `#adopt`.)
 */

import { formatIp, type IpAddress, ipFromWords, ipWords } from "../../base/ip.ts";
import type { ClientRules, PeerResolver, Scene } from "./client_rules.ts";
import {
  type EgressPacket,
  Flow,
  FLOW_KIND,
  type FlowEntry,
  flowMeta,
  isEchoReply,
  metaOf,
  PROTOCOL,
  type Verdict,
} from "./flow.ts";
import { FlowTable, IDLE_CLASS } from "./flow_table.ts";
import { type DnsAnswer, FqdnTable } from "./fqdn_table.ts";
import { FragmentTable } from "./fragment_table.ts";

/** Who a client is and what it may do. */
export interface EgressSession {
  /** SPIFFE ID. Sessions of one identity share one client, so that a takeover cuts no flow. */
  readonly identity: string;
  readonly rules: ClientRules | undefined;
}

/** What the clients of one engine share. */
export interface EgressHost {
  readonly peerAt: PeerResolver;
  readonly isOwnAddress: Scene["isOwnAddress"];
  /** Unknown to peers. */
  readonly seed: number;
  /** Until when connections are taken up again that began before the relay knew of them. */
  readonly adoptsUntil: number;
  /** Grows whenever an address of a pool changes hands. */
  readonly peersRevision: number;
  /** Asks for room for one more flow of a client that has `size`; false: it must give one up. */
  hasRoom(size: number): boolean;
  /** Notes that a client has one flow more (1) or less (-1). */
  count(change: 1 | -1): void;
  /** Reports a flow that is gone before it expired. */
  evicted(flow: FlowEntry, client: EgressClient): void;
}

/** The TCP flags that change how long a flow is kept. */
const FIN = 1;
const SYN = 2;
const RST = 4;
const ACK = 16;

/** Bits of {@linkcode Flow.fins}. */
const FIN_OUT = 1;
const FIN_IN = 2;
const BOTH_FINS = 3;

/** Judges the packets of one client. */
export class EgressClient {
  readonly identity: string;
  readonly #host: EgressHost;
  readonly #flows: FlowTable;
  readonly #fragments = new FragmentTable();
  readonly #fqdn = new FqdnTable();
  #rules: ClientRules | undefined;
  /** Grows with every change that may change verdicts. */
  #revision = 0;

  constructor({ identity, rules }: EgressSession, host: EgressHost) {
    this.identity = identity;
    this.#host = host;
    this.#flows = new FlowTable(host.seed);
    this.#rules = rules;
    this.#fqdn.watch(rules?.names ?? []);
  }

  /** How many flows are remembered. */
  get size(): number {
    return this.#flows.size;
  }

  /**
   * Decides on a packet from the client, whose source address the caller has verified. Always returns an entry,
   * whose `action` says what to do.
   */
  outbound(packet: EgressPacket, now: number): FlowEntry {
    if (packet.fragmentOffset !== 0) return this.#laterFragment(packet, now);
    const meta = metaOf(packet);
    const ports = packet.srcPort << 16 | packet.dstPort;
    let flow = this.#flows.findOutbound(packet, meta, ports);
    if (flow === undefined) flow = this.#open(packet, meta, { ports, now });
    else if (this.#isStale(flow)) this.#judge(flow, now);
    flow.packetsOut++;
    flow.bytesOut += packet.totalLength;
    if (flow.idleClass < 0) return flow;
    if (packet.protocol === PROTOCOL.TCP && (packet.tcpFlags & (FIN | SYN | RST)) !== 0) {
      this.#noteFlags(flow, packet.tcpFlags, { now, fin: FIN_OUT });
    }
    this.#flows.touch(flow, now);
    if (packet.moreFragments && flow.action === "allow") this.#fragments.note(packet, flow, now);
    return flow;
  }

  /**
   * Finds the flow that a packet to the client answers. Undefined when there is none, or it may no longer be used:
   * the packet must not pass.
   */
  inbound(packet: EgressPacket, now: number): FlowEntry | undefined {
    let flow: Flow | undefined;
    if (packet.fragmentOffset !== 0) flow = this.#fragments.find(packet, now);
    else {
      // No flow of the client's is answered by a connection attempt or by an echo request.
      if (packet.protocol === PROTOCOL.TCP && (packet.tcpFlags & (SYN | ACK)) === SYN) return undefined;
      const meta = metaOf(packet);
      if (((meta >>> 4) & 15) === FLOW_KIND.ECHO && !isEchoReply(packet)) return undefined;
      flow = this.#flows.findInbound(packet, meta, packet.dstPort << 16 | packet.srcPort) ??
        this.#adopt(packet, meta, now);
    }
    if (flow === undefined) return undefined;
    if (this.#isStale(flow)) this.#judge(flow, now);
    if (flow.action !== "allow") return undefined;
    flow.packetsIn++;
    flow.bytesIn += packet.totalLength;
    if (packet.protocol === PROTOCOL.TCP && packet.fragmentOffset === 0) {
      if (flow.idleClass === IDLE_CLASS.OPENING) this.#flows.reclass(flow, IDLE_CLASS.TCP, now);
      if ((packet.tcpFlags & (FIN | RST)) !== 0) {
        this.#noteFlags(flow, packet.tcpFlags, { now, fin: FIN_IN });
      }
    }
    this.#flows.touch(flow, now);
    if (packet.moreFragments && packet.fragmentOffset === 0) this.#fragments.note(packet, flow, now);
    return flow;
  }

  /**
   * Finds the flow that an ICMP error to the client is about. `inner` is what it quotes: a packet that the client is
   * said to have sent. The error keeps no flow alive. Undefined: the error must not pass.
   */
  inboundError(inner: EgressPacket, now: number): FlowEntry | undefined {
    const flow = inner.fragmentOffset !== 0
      ? this.#fragments.find(inner, now)
      : this.#flows.findOutbound(inner, metaOf(inner), inner.srcPort << 16 | inner.dstPort);
    return this.#allowed(flow, now);
  }

  /**
   * Finds the flow that an ICMP error from the client is about. `inner` is what it quotes: a packet that the client is
   * said to have got. Lets the client tell a far end of its path MTU where the rules allow no ICMP.
   */
  outboundError(inner: EgressPacket, now: number): FlowEntry | undefined {
    const flow = inner.fragmentOffset !== 0
      ? this.#fragments.find(inner, now)
      : this.#flows.findInbound(inner, metaOf(inner), inner.dstPort << 16 | inner.srcPort);
    return this.#allowed(flow, now);
  }

  /**
   * Changes the rules; undefined takes every right. Each flow is judged again at its next packet, either way: what
   * stays allowed goes on without a gap.
   */
  setRules(rules: ClientRules | undefined): void {
    this.#rules = rules;
    this.#fqdn.watch(rules?.names ?? []);
    this.#revision++;
  }

  /** Tells whether a DNS answer for this name is worth passing to {@linkcode learn}. */
  isWatched(name: string): boolean {
    return this.#fqdn.isWatched(name);
  }

  /**
   * Learns from a DNS answer that `packet` brings the client, once {@linkcode inbound} has let it in. Tells whether
   * it brought something new: routes may be due.
   */
  learn(answer: DnsAnswer, packet: EgressPacket, now: number): boolean {
    const { version } = packet;
    const server = {
      version,
      dst0: packet.src0 | 0,
      dst1: packet.src1 | 0,
      dst2: packet.src2 | 0,
      dst3: packet.src3 | 0,
    };
    if (this.#rules === undefined || !this.#rules.trustsResolver(server)) return false;
    const isNew = this.#fqdn.learn(answer, now);
    if (isNew) this.#revision++;
    return isNew;
  }

  /** The addresses that `fqdn` rules open right now, and those of flows that began by a name and go on. */
  learnedAddresses(now: number): IpAddress[] {
    const rules = this.#rules;
    if (rules === undefined || rules.allowedNames.length === 0) return [];
    const found = new Map<string, IpAddress>();
    for (const address of this.#fqdn.addressesOf(rules.allowedNames, now)) {
      const [dst0, dst1, dst2, dst3] = ipWords(address);
      const signed = { dst0: dst0 | 0, dst1: dst1 | 0, dst2: dst2 | 0, dst3: dst3 | 0 };
      if (rules.canOpen({ version: address.version, ...signed })) found.set(formatIp(address), address);
    }
    for (const { action, name, version, dst0, dst1, dst2, dst3 } of this.#flows.flows()) {
      if (action !== "allow" || name === "") continue;
      const address = ipFromWords(version, dst0, dst1, dst2, dst3);
      found.set(formatIp(address), address);
    }
    return [...found.values()];
  }

  /** Removes and returns one flow whose idle time is over; for the engine. */
  takeExpired(now: number): FlowEntry | undefined {
    this.#fqdn.expire(now);
    const flow = this.#flows.expired(now);
    if (flow !== undefined) this.#drop(flow);
    return flow;
  }

  /** Removes and returns one flow, whichever; for the engine. */
  takeAny(): FlowEntry | undefined {
    const flow = this.#flows.leastNeeded();
    if (flow !== undefined) this.#drop(flow);
    return flow;
  }

  #laterFragment(packet: EgressPacket, now: number): FlowEntry {
    let flow = this.#fragments.find(packet, now);
    if (flow === undefined) {
      const meta = flowMeta(packet.version, FLOW_KIND.STRAY_FRAGMENT, packet.protocol);
      flow = this.#flows.findOutbound(packet, meta, 0) ?? this.#open(packet, meta, { ports: 0, now });
    }
    if (this.#isStale(flow)) this.#judge(flow, now);
    flow.packetsOut++;
    flow.bytesOut += packet.totalLength;
    if (flow.idleClass >= 0) this.#flows.touch(flow, now);
    return flow;
  }

  #allowed(flow: Flow | undefined, now: number): FlowEntry | undefined {
    if (flow === undefined) return undefined;
    if (this.#isStale(flow)) this.#judge(flow, now);
    return flow.action === "allow" ? flow : undefined;
  }

  #isStale(flow: Flow): boolean {
    return flow.revision !== this.#revision || (flow.inPool && flow.peers !== this.#host.peersRevision);
  }

  #open(packet: EgressPacket, meta: number, { ports, now }: { ports: number; now: number }): Flow {
    const flow = new Flow(packet, { meta, ports, now });
    this.#apply(flow, now);
    this.#remember(flow);
    return flow;
  }

  /**
   * Knows a connection again that a restart made the relay forget: the far end is in the middle of it, and the client
   * may open it. Who only receives would otherwise wait for ever.
   */
  #adopt(packet: EgressPacket, meta: number, now: number): Flow | undefined {
    const isMidway = packet.protocol === PROTOCOL.TCP && (packet.tcpFlags & (SYN | RST | ACK)) === ACK;
    if (!isMidway || now >= this.#host.adoptsUntil) return undefined;
    const flow = new Flow(reversed(packet), { meta, ports: packet.dstPort << 16 | packet.srcPort, now });
    this.#apply(flow, now);
    if (flow.action !== "allow") return undefined;
    this.#remember(flow);
    return flow;
  }

  #remember(flow: Flow): void {
    // What is denied may push out what is denied, never what is allowed; then it is judged again each time.
    if (!this.#host.hasRoom(this.#flows.size)) {
      const victim = flow.action === "allow" ? this.#flows.leastNeeded() : this.#flows.oldestDenied();
      if (victim === undefined) return;
      this.#drop(victim);
      this.#host.evicted(victim, this);
    }
    this.#flows.add(flow, idleClassOf(flow));
    this.#host.count(1);
  }

  /** Judges a known flow again. */
  #judge(flow: Flow, now: number): void {
    const before = flow.action;
    this.#apply(flow, now);
    if (flow.action === before) return;
    flow.isNew = true;
    if (flow.idleClass >= 0) this.#flows.reclass(flow, idleClassOf(flow), now);
  }

  #apply(flow: Flow, now: number): void {
    const { peerAt, isOwnAddress } = this.#host;
    const scene: Scene = { fqdn: this.#fqdn, peerAt, isOwnAddress, now };
    const { action, rule, reason } = this.#rules?.judge(flow, scene) ?? NO_RULES;
    flow.action = action;
    flow.rule = rule;
    flow.reason = reason;
    flow.revision = this.#revision;
    flow.peers = this.#host.peersRevision;
  }

  #noteFlags(flow: Flow, flags: number, { now, fin }: { now: number; fin: number }): void {
    if (flow.action !== "allow") return;
    if ((flags & SYN) !== 0 && fin === FIN_OUT) {
      flow.fins = 0;
      if (flow.idleClass === IDLE_CLASS.CLOSING) this.#flows.reclass(flow, IDLE_CLASS.OPENING, now);
    }
    if ((flags & FIN) !== 0) flow.fins |= fin;
    if ((flags & RST) !== 0 || flow.fins === BOTH_FINS) this.#flows.reclass(flow, IDLE_CLASS.CLOSING, now);
  }

  #drop(flow: Flow): void {
    this.#flows.remove(flow);
    this.#host.count(-1);
  }
}

const NO_RULES: Verdict = { action: "drop", rule: "", reason: "no_rules" };

function reversed(packet: EgressPacket): EgressPacket {
  return {
    ...packet,
    ...{ src0: packet.dst0, src1: packet.dst1, src2: packet.dst2, src3: packet.dst3 },
    ...{ dst0: packet.src0, dst1: packet.src1, dst2: packet.src2, dst3: packet.src3 },
    srcPort: packet.dstPort,
    dstPort: packet.srcPort,
  };
}

function idleClassOf(flow: Flow): number {
  if (flow.action !== "allow") return IDLE_CLASS.DENIED;
  switch (flow.protocol) {
    case PROTOCOL.TCP:
      return flow.packetsIn === 0 ? IDLE_CLASS.OPENING : IDLE_CLASS.TCP;
    case PROTOCOL.UDP:
      return IDLE_CLASS.UDP;
    case PROTOCOL.ICMP:
    case PROTOCOL.ICMPV6:
      return IDLE_CLASS.ICMP;
    default:
      return IDLE_CLASS.OTHER;
  }
}
