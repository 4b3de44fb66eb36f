/**
 * What a tunnel endpoint counts: packets and bytes each way, and every packet that was not forwarded under its reason.
 */

import type { PacketFault } from "../../wire/packet/packet_view.ts";

/**
 * Why a packet was dropped.
 *
 * - a {@linkcode PacketFault}: it is no IP packet
 * - `spoofed_source`: its source is not the sender's, or claims to be what is never outside
 * - `out_of_scope`: the request's target or protocol, or the routes, leave it out
 * - `ttl_expired`: its hops are used up
 * - `denied`: the egress policy says no
 * - `unsolicited`: nobody asked for it: no flow of the receiver's, no packet that an ICMP error could be about
 * - `no_session`: its destination is an address of the pool that nobody holds now
 * - `no_link`: the agent has had no relay for a while
 * - `too_large`: it fits no datagram of the link and must not be fragmented
 * - `link_full`: the link did not take it and the backlog is full
 * - `ended`: the session ended while it waited
 * - `failed`: handling it threw
 */
export type DropReason =
  | PacketFault
  | "spoofed_source"
  | "out_of_scope"
  | "ttl_expired"
  | "denied"
  | "unsolicited"
  | "no_session"
  | "no_link"
  | "too_large"
  | "link_full"
  | "ended"
  | "failed";

/** Drops per reason; a reason that never occurred is absent. */
export type Drops = Readonly<Partial<Record<DropReason, number>>>;

/** The counters of one endpoint. "In" comes from the link, "out" goes to it. */
export class TunnelCounters {
  packetsIn = 0;
  bytesIn = 0;
  packetsOut = 0;
  bytesOut = 0;
  readonly #drops = new Map<DropReason, number>();
  #dropped = 0;

  /** All drops together. */
  get dropped(): number {
    return this.#dropped;
  }

  /** Counts one packet that was not forwarded, or `count` of them. */
  drop(reason: DropReason, count = 1): void {
    this.#dropped += count;
    this.#drops.set(reason, (this.#drops.get(reason) ?? 0) + count);
  }

  /** A copy of the drops per reason. */
  drops(): Drops {
    return Object.fromEntries(this.#drops);
  }
}
