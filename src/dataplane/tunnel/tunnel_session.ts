/**
 * One peer's tunnel at the hub: who it is, which addresses are its own, its counters, and the sending side of its link
 * with a bounded backlog. What may pass is the hub's business.
 */

import type { IpAddress } from "../../base/ip.ts";
import type { EgressIdentity } from "../../core/egress/document.ts";
import type { EgressClient } from "../../core/egress/egress_client.ts";
import type { RouteSet } from "../../core/route_set.ts";
import { AddressSet } from "./address_set.ts";
import { Backlog, type BacklogState } from "./backlog.ts";
import { TunnelCounters } from "./counters.ts";
import { TokenBucket } from "./token_bucket.ts";
import type { TunnelLink } from "./tunnel_link.ts";

/** ICMP errors to one peer (RFC 4443 §2.4 (f) asks for a bound): a page full of refused connections, then ten a second. */
const ICMP_ERRORS = { burst: 50, perSecond: 10 } as const;

/** Audited refusals of one peer: a scan shows as one, and cannot fill the audit log. Allowed flows have no bound. */
const AUDITED_REFUSALS = { burst: 50, perSecond: 5 } as const;

/** Times in a row that a link may say it is writable and take nothing, before only time is expected to help. */
const MAX_ATTEMPTS = 16;

/** What {@linkcode TunnelHub.attach} needs of a peer. */
export interface TunnelSessionOptions {
  readonly identity: EgressIdentity;
  /** The addresses assigned to the peer: its packets come from them, and what goes to them is its own. */
  readonly addresses: readonly IpAddress[];
  readonly link: TunnelLink;
  /** The peer's rules and flows, of `EgressEngine.client()`. The hub releases it when the session ends. */
  readonly client: EgressClient;
  /** Destinations and protocols that the peer's request is limited to. */
  readonly scope: RouteSet;
  /** Called once when another session takes this one's identity or address; the session is detached already. */
  readonly onReplaced?: () => void;
}

/** A peer's tunnel. Obtain it from the hub, hand it the peer's packets, detach it when the link ends. */
export class TunnelSession {
  readonly identity: EgressIdentity;
  readonly client: EgressClient;
  readonly scope: RouteSet;
  readonly owned: AddressSet;
  readonly counters = new TunnelCounters();
  readonly icmpErrors = new TokenBucket(ICMP_ERRORS);
  readonly auditedRefusals = new TokenBucket(AUDITED_REFUSALS);
  /** Refusals of flows that were counted but not audited one by one. */
  unauditedRefusals = 0;
  /** When the peer last sent a packet, in the hub's clock; 0 while it has not. */
  lastSeen = 0;
  /** Its link did not keep up when it was given time: others need not wait for it until its backlog is empty. */
  isSlow = false;
  readonly #link: TunnelLink;
  readonly #hub: SessionOwner;
  readonly #onReplaced: (() => void) | undefined;
  #attached = true;
  #mtu = 0;
  #mtuBurst = -1;
  #reportedDrops = 0;
  #backlog: Backlog | undefined;
  /** Ends the wait of a backlog whose link says that it is writable and takes nothing. */
  #retry: (() => void) | undefined;

  constructor(hub: SessionOwner, options: TunnelSessionOptions) {
    this.#hub = hub;
    this.identity = options.identity;
    this.client = options.client;
    this.scope = options.scope;
    this.owned = new AddressSet(options.addresses);
    this.#link = options.link;
    this.#onReplaced = options.onReplaced;
  }

  /** False once detached or replaced: nothing passes any more. */
  get attached(): boolean {
    return this.#attached;
  }

  /** Bytes of the largest packet that goes to the peer in one datagram; the link is asked once per burst. */
  mtuIn(burst: number): number {
    if (burst !== this.#mtuBurst) {
      this.#mtuBurst = burst;
      this.#mtu = this.#link.mtu;
    }
    return this.#mtu;
  }

  /** Packets that wait for the link. */
  get waiting(): number {
    return this.#backlog?.size ?? 0;
  }

  /** Whether packets wait for the link, and it is worth giving it a turn. */
  get isFilling(): boolean {
    return this.#backlog !== undefined && !this.isSlow;
  }

  /** Takes a packet of the peer; never throws, whatever it is. */
  receive(packet: Uint8Array<ArrayBuffer>): void {
    this.#hub.fromPeer(this, packet);
  }

  /**
   * Sends a packet to the peer, or keeps it in order while the link is full; returns false when it was dropped. The
   * headroom in front of `start` is overwritten, the buffer is free again at once.
   */
  transmit(buffer: Uint8Array<ArrayBuffer>, start: number, end: number): boolean {
    if (this.#backlog !== undefined || !this.#link.send(buffer, start, end)) {
      if (!this.#hold(buffer.subarray(start, end))) {
        this.counters.drop("link_full");
        return false;
      }
    }
    this.counters.packetsOut++;
    this.counters.bytesOut += end - start;
    return true;
  }

  /** As {@linkcode transmit}, but, where the link has room, behind what the peer was told before. */
  transmitInOrder(buffer: Uint8Array<ArrayBuffer>, start: number, end: number): boolean {
    if (this.#backlog !== undefined || !this.#link.sendInOrder(buffer, start, end)) {
      return this.transmit(buffer, start, end);
    }
    this.counters.packetsOut++;
    this.counters.bytesOut += end - start;
    return true;
  }

  /** Tells whether packets were dropped since the last call. */
  hasNewDrops(): boolean {
    const { dropped } = this.counters;
    if (dropped === this.#reportedDrops) return false;
    this.#reportedDrops = dropped;
    return true;
  }

  /** Looks again at a link that said it was writable and took nothing. Called about once a second. */
  tick(): void {
    this.#retry?.();
  }

  /** Ends the session: its addresses are free for the next. */
  detach(): void {
    if (this.#attached) this.#hub.detach(this);
  }

  /** The hub's side of the end: what waits is dropped. */
  end({ replaced }: { readonly replaced: boolean }): void {
    if (!this.#attached) return;
    this.#attached = false;
    const lost = this.#backlog?.clear() ?? 0;
    if (lost > 0) this.counters.drop("ended", lost);
    this.#backlog = undefined;
    this.#retry?.();
    if (replaced) this.#onReplaced?.();
  }

  #hold(packet: Uint8Array): boolean {
    if (this.#backlog !== undefined) return this.#backlog.add(packet);
    this.#backlog = new Backlog();
    void this.#drain(this.#backlog);
    return this.#backlog.add(packet);
  }

  async #drain(backlog: Backlog): Promise<void> {
    let attempts = 0;
    while (this.#backlog === backlog) {
      await this.#writable();
      const state = this.#sendFrom(backlog);
      if (state === "empty") {
        this.#backlog = undefined;
        this.isSlow = false;
      }
      attempts = state === "stuck" ? attempts + 1 : 0;
      if (attempts > 0) await this.#wait(attempts);
    }
  }

  /** A link that has ended is writable and takes nothing: asking it again at once would be asking for ever. */
  async #wait(attempts: number): Promise<void> {
    if (attempts <= MAX_ATTEMPTS) return await this.#hub.turn();
    await new Promise<void>((resolve) => this.#retry = resolve);
    this.#retry = undefined;
  }

  async #writable(): Promise<void> {
    try {
      await this.#link.writable();
    } catch (error) {
      this.#hub.failed(error);
    }
  }

  #sendFrom(backlog: Backlog): BacklogState {
    try {
      return backlog.sendTo(this.#link);
    } catch (error) {
      this.#hub.failed(error);
      return "stuck";
    }
  }
}

/** What a session asks of its hub. */
interface SessionOwner {
  fromPeer(session: TunnelSession, packet: Uint8Array<ArrayBuffer>): void;
  detach(session: TunnelSession): void;
  /** Resolves when the events that wait now were handled. */
  turn(): Promise<void>;
  /** Tells of an error that has no caller to go to. */
  failed(error: unknown): void;
}
