/** What one local program sends to one port of a service over UDP, or one ping to a service: one flow of datagrams. */

import { type AnswerEnds, answerEnds } from "../../wire/packet/answers.ts";
import type { LocatedPacket } from "../../wire/packet/icmp.ts";
import { newPacketView, readPacket } from "../../wire/packet/packet_view.ts";
import type { DatagramFlow } from "../datagram/datagram_flow.ts";
import type { CaptureRefusal } from "./capture_ports.ts";
import { FlowEntry } from "./flow_table.ts";

/** Packets that wait while the flow opens; the newest go. */
const MAX_HELD = 16;

/** A captured association. */
export class DatagramAssociation extends FlowEntry {
  /** The ends of its answers. */
  readonly ends: AnswerEnds;
  /** Ends opening. */
  readonly ending = new AbortController();
  /** Once it is open. */
  flow: DatagramFlow | undefined;
  /** Why there is none; later packets are told the same until {@linkcode forgetAt}. */
  refusal: CaptureRefusal | undefined;
  forgetAt = Infinity;
  /** Whether a packet came from the program since the last sweep. */
  wasUsed = false;
  /** When one had come, as of the last sweep. */
  usedAt: number;
  /** Until when packets are dropped at once where the flow takes none. */
  stalledUntil = 0;
  readonly #first: Uint8Array<ArrayBuffer>;
  #held: Uint8Array<ArrayBuffer>[] = [];
  #heldBytes = 0;

  constructor(packet: LocatedPacket, now: number) {
    super(packet.view);
    this.usedAt = now;
    this.ends = answerEnds(packet);
    this.#first = copyOf(packet);
  }

  /** Bytes of the packets that wait. */
  get heldBytes(): number {
    return this.#heldBytes;
  }

  /** The packet that began it, to be quoted. */
  first(): LocatedPacket {
    const bytes = this.#first;
    const view = newPacketView();
    readPacket(bytes, 0, bytes.length, view);
    return { bytes, start: 0, end: bytes.length, view };
  }

  /** Keeps a packet back; false when there is no room. */
  hold(packet: LocatedPacket): boolean {
    if (this.#held.length >= MAX_HELD) return false;
    const copy = copyOf(packet);
    this.#held.push(copy);
    this.#heldBytes += copy.length;
    return true;
  }

  /** Gives up what was kept back, in order. */
  release(): Uint8Array<ArrayBuffer>[] {
    const held = this.#held;
    this.#held = [];
    this.#heldBytes = 0;
    return held;
  }
}

function copyOf({ bytes, start, end }: LocatedPacket): Uint8Array<ArrayBuffer> {
  return new Uint8Array(bytes.subarray(start, end));
}
