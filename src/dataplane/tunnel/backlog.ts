/**
 * Packets that a full link did not take, in order, until it takes them: what a burst of the device holds beyond the
 * link's own queue. Bounded; a packet beyond the bound is dropped by the caller (the newest goes).
 */

import { PacketBatch } from "./packet_batch.ts";
import type { TunnelLink } from "./tunnel_link.ts";

/** Packets of each of the two halves: together two batches of the device. */
const HALF_PACKETS = 128;

/** Bytes of a half. A session costs at most two: 384 KiB, and only once its link was full. */
const HALF_BYTES = HALF_PACKETS * 1_536;

/** What became of {@linkcode Backlog.sendTo}. */
export type BacklogState = "empty" | "moved" | "stuck";

/** A bounded queue of packets for one link. */
export class Backlog {
  #front = newHalf();
  #back: PacketBatch | undefined;
  #next = 0;

  /** Packets that wait. */
  get size(): number {
    return this.#front.count - this.#next + (this.#back?.count ?? 0);
  }

  /** Copies a packet in; false when there is no room. */
  add(packet: Uint8Array): boolean {
    const back = this.#back;
    if ((back === undefined || back.count === 0) && this.#front.add(packet)) return true;
    return (this.#back ??= newHalf()).add(packet);
  }

  /** Sends what the link takes: all of it, some, or nothing. */
  sendTo(link: TunnelLink): BacklogState {
    let moved = false;
    for (;;) {
      const front = this.#front;
      while (this.#next < front.count) {
        if (!link.send(front.bytes, front.starts[this.#next]!, front.ends[this.#next]!)) {
          return moved ? "moved" : "stuck";
        }
        moved = true;
        this.#next++;
      }
      front.clear();
      this.#next = 0;
      if (this.#back === undefined || this.#back.count === 0) return "empty";
      this.#front = this.#back;
      this.#back = front;
    }
  }

  /** Forgets what waits; returns how many there were. */
  clear(): number {
    const lost = this.size;
    this.#front.clear();
    this.#back?.clear();
    this.#next = 0;
    return lost;
  }
}

function newHalf(): PacketBatch {
  return new PacketBatch({ maxPackets: HALF_PACKETS, maxBytes: HALF_BYTES });
}
