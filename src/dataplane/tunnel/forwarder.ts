/**
 * The way of each packet through the hub, and what it must pass on it. From a peer: its own source, its request's scope,
 * the egress policy. From outside: a peer that asked for it. What answers a peer's packet passes by that peer's right.
 */

import type { FlowEntry } from "../../core/egress/flow.ts";
import type { RouteSet } from "../../core/route_set.ts";
import type { TunnelRegistry } from "../../core/tunnel_registry.ts";
import { readDnsAnswer } from "../../wire/packet/dns.ts";
import { type IcmpError, innerOfIcmpError } from "../../wire/packet/icmp.ts";
import {
  decrementTtl,
  newPacketView,
  type PacketView,
  PROTOCOL_UDP,
  readPacket,
} from "../../wire/packet/packet_view.ts";
import type { AddressSet } from "./address_set.ts";
import type { DropReason, TunnelCounters } from "./counters.ts";
import type { DeviceWriter } from "./device_writer.ts";
import { IcmpAnswers, NO_ROUTE, PROHIBITED, TIME_EXCEEDED } from "./icmp_answers.ts";
import { PACKET_HEADROOM } from "./packet_batch.ts";
import { isAnswerTo, isIcmpError } from "./packet_checks.ts";
import type { TunnelSession } from "./tunnel_session.ts";

/** No packet is longer. */
const MAX_PACKET = 65_535;

const UDP_HEADER = 8;
const DNS_PORT = 53;

/** What a {@linkcode Forwarder} works with; all of it is the hub's. */
export interface ForwarderOptions {
  readonly registry: TunnelRegistry<TunnelSession>;
  /** Where peers' addresses are from. */
  readonly pools: RouteSet;
  readonly gateways: AddressSet;
  readonly writer: DeviceWriter;
  /** Counts packets of the device that no peer gets. */
  readonly counters: TunnelCounters;
  readonly onDecision: (session: TunnelSession, flow: FlowEntry) => void;
  readonly onLearned: ((session: TunnelSession) => void) | undefined;
}

/** Forwards packets one by one, allocating nothing for those that pass. */
export class Forwarder {
  /** The hub's clock at the start of the burst: milliseconds. */
  #now = 0;
  #burst = 0;
  readonly #options: ForwarderOptions;
  readonly #registry: TunnelRegistry<TunnelSession>;
  readonly #pools: RouteSet;
  readonly #gateways: AddressSet;
  readonly #writer: DeviceWriter;
  readonly #answers: IcmpAnswers;
  readonly #view = newPacketView();
  readonly #inner = newPacketView();
  readonly #scratch = new Uint8Array(PACKET_HEADROOM + MAX_PACKET);

  constructor(options: ForwarderOptions) {
    this.#options = options;
    this.#registry = options.registry;
    this.#pools = options.pools;
    this.#gateways = options.gateways;
    this.#writer = options.writer;
    this.#answers = new IcmpAnswers(options.gateways);
  }

  /** Packets that came together follow. */
  startBurst(now: number): void {
    this.#now = now;
    this.#burst++;
  }

  /** Takes a packet that a peer sent. */
  fromPeer(session: TunnelSession, packet: Uint8Array<ArrayBuffer>): void {
    const { counters } = session;
    const view = this.#view;
    if (!session.attached) return counters.drop("ended");
    const fault = readPacket(packet, 0, packet.length, view);
    if (fault !== undefined) return counters.drop(fault);
    // RFC 9484 §11: a peer sends from the addresses assigned to it and from no other.
    if (!session.owned.hasSource(view)) return counters.drop("spoofed_source");
    if (view.ttl === 0) return counters.drop("ttl_expired");
    session.lastSeen = this.#now;
    // RFC 9484 §4.6: nothing passes but what the request asked for.
    if (!session.scope.containsDestination(view)) {
      counters.drop("out_of_scope");
      return this.#answer(session, packet, NO_ROUTE);
    }
    if (isIcmpError(view)) return this.#errorFromPeer(session, packet);

    const toPeer = this.#isPeerAddress(view);
    const peer = toPeer ? this.#holderOf(view) : undefined;
    if (peer !== undefined) {
      // What answers a flow that the other peer opened passes by that peer's right.
      const reply = peer.client.inbound(view, this.#now);
      if (reply?.isNew) this.#decided(peer, reply);
      if (reply !== undefined) return this.#toOtherPeer(session, peer, packet);
    }
    const flow = session.client.outbound(view, this.#now);
    if (flow.isNew) this.#decided(session, flow);
    if (flow.action !== "allow") {
      counters.drop("denied");
      if (flow.action === "reject") this.#answer(session, packet, PROHIBITED);
      return;
    }
    if (!toPeer) return this.#toDevice(session, packet);
    if (peer !== undefined) return this.#toOtherPeer(session, peer, packet);
    counters.drop("no_session");
    this.#answer(session, packet, NO_ROUTE);
  }

  /** An ICMP error belongs to the packet it quotes, which the one it goes to must have sent to the one it comes from. */
  #errorFromPeer(session: TunnelSession, packet: Uint8Array<ArrayBuffer>): void {
    const view = this.#view;
    const inner = this.#inner;
    const isRelated = innerOfIcmpError(packet, 0, packet.length, view, inner) &&
      session.owned.hasDestination(inner) && isAnswerTo(view, inner);
    if (!isRelated) return session.counters.drop("unsolicited");
    const toPeer = this.#isPeerAddress(view);
    const peer = toPeer ? this.#holderOf(view) : undefined;
    if (peer?.client.inboundError(inner, this.#now) !== undefined) {
      return this.#toOtherPeer(session, peer, packet);
    }
    if (session.client.outboundError(inner, this.#now) === undefined) {
      return session.counters.drop("unsolicited");
    }
    if (!toPeer) return this.#toDevice(session, packet);
    if (peer !== undefined) return this.#toOtherPeer(session, peer, packet);
    session.counters.drop("no_session");
  }

  #toDevice(session: TunnelSession, packet: Uint8Array): void {
    session.counters.packetsIn++;
    session.counters.bytesIn += packet.length;
    this.#writer.add(packet);
  }

  #toOtherPeer(session: TunnelSession, peer: TunnelSession, packet: Uint8Array): void {
    const view = this.#view;
    if (!peer.scope.containsSource(view)) return session.counters.drop("out_of_scope");
    // RFC 9484 §7.1: who forwards from one link to another takes off a hop.
    if (view.ttl <= 1) {
      session.counters.drop("ttl_expired");
      return this.#answer(session, packet, TIME_EXCEEDED);
    }
    const mtu = peer.mtuIn(this.#burst);
    if (packet.length > mtu && view.dontFragment) {
      session.counters.drop("too_large");
      return this.#answer(session, packet, { kind: "packet_too_big", mtu });
    }
    session.counters.packetsIn++;
    session.counters.bytesIn += packet.length;
    this.#scratch.set(packet, PACKET_HEADROOM);
    decrementTtl(this.#scratch, PACKET_HEADROOM);
    peer.transmit(this.#scratch, PACKET_HEADROOM, PACKET_HEADROOM + packet.length);
  }

  /** Takes a packet that came through the device; returns the session that got it. */
  fromDevice(bytes: Uint8Array<ArrayBuffer>, start: number, end: number): TunnelSession | undefined {
    const { counters } = this.#options;
    const view = this.#view;
    const fault = readPacket(bytes, start, end, view);
    if (fault !== undefined) return drop(counters, fault);
    const session = this.#holderOf(view);
    if (session === undefined) return drop(counters, "no_session");
    // Peers' packets come from peers: through the device somebody outside pretends to be one.
    if (this.#pools.containsSource(view) && !this.#gateways.hasSource(view)) {
      return drop(counters, "spoofed_source");
    }
    if (!this.#wasAskedFor(session, bytes, start, end)) return drop(counters, "unsolicited");
    const mtu = session.mtuIn(this.#burst);
    if (end - start > mtu && view.dontFragment) {
      const error = { kind: "packet_too_big", mtu } as const;
      this.#answers.toDevice({ bytes, start, end, view }, { error, now: this.#now, writer: this.#writer });
      return drop(session.counters, "too_large");
    }
    // The routes to what an answer names arrive before it.
    if (this.#isWatchedAnswer(session, bytes, start, end)) session.transmitInOrder(bytes, start, end);
    else session.transmit(bytes, start, end);
    return session;
  }

  /** Tells whether a packet from outside answers one of the peer's, or is an ICMP error about one. */
  #wasAskedFor(session: TunnelSession, bytes: Uint8Array<ArrayBuffer>, start: number, end: number): boolean {
    const view = this.#view;
    if (isIcmpError(view)) {
      const inner = this.#inner;
      return innerOfIcmpError(bytes, start, end, view, inner) && isAnswerTo(view, inner) &&
        session.client.inboundError(inner, this.#now) !== undefined;
    }
    const flow = session.client.inbound(view, this.#now);
    if (flow === undefined) return false;
    if (flow.isNew) this.#decided(session, flow);
    return true;
  }

  /**
   * Tells whether a packet that may pass is a DNS answer that rules ask about. Names are learned before it is delivered:
   * the peer's next packet may already go to what it said.
   */
  #isWatchedAnswer(session: TunnelSession, bytes: Uint8Array, start: number, end: number): boolean {
    const view = this.#view;
    if (view.srcPort !== DNS_PORT || view.protocol !== PROTOCOL_UDP) return false;
    const answer = readDnsAnswer(bytes, start + view.headerLength + UDP_HEADER, end);
    if (answer === undefined || !session.client.isWatched(answer.question)) return false;
    if (session.client.learn(answer, view, this.#now)) this.#options.onLearned?.(session);
    return true;
  }

  #decided(session: TunnelSession, flow: FlowEntry): void {
    // Cleared last: what could not be told does not pass, and is told again.
    if (flow.action === "allow" || session.auditedRefusals.take(this.#now)) {
      this.#options.onDecision(session, flow);
    } else session.unauditedRefusals++;
    flow.isNew = false;
  }

  #answer(session: TunnelSession, packet: Uint8Array, error: IcmpError): void {
    const refused = { bytes: packet, start: 0, end: packet.length, view: this.#view };
    this.#answers.toPeer(session, refused, { error, now: this.#now });
  }

  /** The session that a packet is for. */
  #holderOf(view: PacketView): TunnelSession | undefined {
    return this.#registry.byAddress(view.version, view.dst0, view.dst1, view.dst2, view.dst3);
  }

  /** Tells whether a packet goes to an address that a peer may hold. */
  #isPeerAddress(view: PacketView): boolean {
    return this.#pools.containsDestination(view) && !this.#gateways.hasDestination(view);
  }
}

function drop(counters: TunnelCounters, reason: DropReason): undefined {
  counters.drop(reason);
}
