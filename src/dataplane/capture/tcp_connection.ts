/** One captured TCP connection, from the first SYN until nobody can ask for it any more. */

import type { ByteChannel } from "../../base/channel.ts";
import { answerEnds } from "../../wire/packet/answers.ts";
import type { LocatedPacket } from "../../wire/packet/icmp.ts";
import { newPacketView, readPacket } from "../../wire/packet/packet_view.ts";
import { type FlowRewrite, flowRewrite } from "../../wire/packet/rewrite.ts";
import { FlowEntry } from "./flow_table.ts";

/**
 * - `opening`: the SYN is held until there is a flow
 * - `offered`: the SYN went to our listener, which has not handed over a socket yet
 * - `carried`: socket and flow are joined
 * - `over`: only late packets pass
 */
export type TcpState = "opening" | "offered" | "carried" | "over";

/** The address and port of our listener, and those the connection seems to come from there. */
export interface TcpPlace {
  readonly own: Uint8Array;
  readonly ownPort: number;
  readonly peer: Uint8Array;
  readonly peerPort: number;
}

/** A captured connection, and how its packets are rewritten. */
export class TcpConnection extends FlowEntry {
  state: TcpState = "opening";
  /** When the state began, in the owner's milliseconds. */
  since: number;
  /** The program has reset the connection. */
  wasReset = false;
  /** Our kernel has answered the SYN. */
  wasAnswered = false;
  /** What the connection leads to; absent for the resolver. */
  flow: ByteChannel | undefined;
  readonly peerPort: number;
  /** From the program to our listener. */
  readonly inward: FlowRewrite;
  /** And back. */
  readonly outward: FlowRewrite;
  /** Ends opening, and what is carried. */
  readonly ending = new AbortController();
  readonly #syn: Uint8Array<ArrayBuffer>;

  constructor(syn: LocatedPacket, { place, now }: { readonly place: TcpPlace; readonly now: number }) {
    super(syn.view);
    this.#syn = new Uint8Array(syn.bytes.subarray(syn.start, syn.end));
    this.since = now;
    this.peerPort = place.peerPort;
    const { addresses, srcPort: service, dstPort: program } = answerEnds(syn);
    const half = addresses.length / 2;
    const [dst, src] = [addresses.subarray(0, half), addresses.subarray(half)];
    const outside = { src, dst, srcPort: program, dstPort: service };
    const { own, ownPort, peer, peerPort } = place;
    const inside = { src: peer, dst: own, srcPort: peerPort, dstPort: ownPort };
    this.inward = flowRewrite(outside, inside);
    this.outward = flowRewrite(
      { src: own, dst: peer, srcPort: ownPort, dstPort: peerPort },
      { src: dst, dst: src, srcPort: service, dstPort: program },
    );
  }

  /** A copy of the held SYN. */
  syn(): LocatedPacket {
    const bytes = this.#syn.slice();
    const view = newPacketView();
    readPacket(bytes, 0, bytes.length, view);
    return { bytes, start: 0, end: bytes.length, view };
  }

  /** Enters a state. */
  enter(state: TcpState, now: number): void {
    this.state = state;
    this.since = now;
  }
}
