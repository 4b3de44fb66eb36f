/**
 * Which flow the later fragments of a packet belong to: they carry no ports, so the first fragment speaks for
 * them. Bounded; two packets whose fragments cross in the same place cost each other fragments, never a right.
 */

import type { EgressPacket, Flow } from "./flow.ts";

/**
 * Fragmented packets remembered for one client, 256 in all; about 100 bytes each, made at the first fragment. A burst of
 * answers may come between a packet's fragments: of packets that fall into one set the newest stay.
 */
const SETS = 64;
const SLOTS_PER_SET = 4;

/** Milliseconds from the first fragment to the last; receivers wait as long (RFC 791 §3.2: 15 s, then twice). */
const FRAGMENT_TIME = 30_000;

/** First fragments of one client's packets, of both directions. */
export class FragmentTable {
  #slots: Slot[] | undefined;
  /** Per set, the slot that gives way next. */
  readonly #next = new Uint8Array(SETS);

  /** Remembers the flow of a first fragment. */
  note(packet: EgressPacket, flow: Flow, now: number): void {
    this.#slots ??= Array.from({ length: SETS * SLOTS_PER_SET }, () => new Slot());
    const slot = this.#slots[this.#indexOf(packet)] ?? this.#oldestFor(packet);
    slot.flow = flow;
    slot.until = now + FRAGMENT_TIME;
    slot.id = packet.fragmentId | 0;
    slot.meta = metaOf(packet);
    slot.src0 = packet.src0 | 0;
    slot.src1 = packet.src1 | 0;
    slot.src2 = packet.src2 | 0;
    slot.src3 = packet.src3 | 0;
    slot.dst0 = packet.dst0 | 0;
    slot.dst1 = packet.dst1 | 0;
    slot.dst2 = packet.dst2 | 0;
    slot.dst3 = packet.dst3 | 0;
  }

  /** The flow that a later fragment belongs to; undefined when its first fragment was not noted or is long ago. */
  find(packet: EgressPacket, now: number): Flow | undefined {
    if (this.#slots === undefined) return undefined;
    const slot = this.#slots[this.#indexOf(packet)];
    if (slot === undefined || slot.until < now) return undefined;
    if (slot.flow !== undefined && slot.flow.idleClass < 0) slot.flow = undefined;
    return slot.flow;
  }

  /** Where a packet is remembered; -1 where it is not. */
  #indexOf(packet: EgressPacket): number {
    const first = setOf(packet) * SLOTS_PER_SET;
    for (let i = first; i < first + SLOTS_PER_SET; i++) if (isOf(this.#slots![i]!, packet)) return i;
    return -1;
  }

  #oldestFor(packet: EgressPacket): Slot {
    const set = setOf(packet);
    const index = this.#next[set]!;
    this.#next[set] = (index + 1) % SLOTS_PER_SET;
    return this.#slots![set * SLOTS_PER_SET + index]!;
  }
}

class Slot {
  flow: Flow | undefined = undefined;
  until = -Infinity;
  id = 0;
  meta = 0;
  src0 = 0;
  src1 = 0;
  src2 = 0;
  src3 = 0;
  dst0 = 0;
  dst1 = 0;
  dst2 = 0;
  dst3 = 0;
}

/** Tells whether a slot is that of a fragment's packet. */
function isOf(slot: Slot, packet: EgressPacket): boolean {
  return slot.id === (packet.fragmentId | 0) && slot.meta === metaOf(packet) &&
    slot.src3 === (packet.src3 | 0) && slot.dst3 === (packet.dst3 | 0) &&
    slot.src0 === (packet.src0 | 0) && slot.src1 === (packet.src1 | 0) && slot.src2 === (packet.src2 | 0) &&
    slot.dst0 === (packet.dst0 | 0) && slot.dst1 === (packet.dst1 | 0) && slot.dst2 === (packet.dst2 | 0);
}

/**
 * What besides addresses and identification makes fragments one packet: the protocol of IPv4 (RFC 791 §2.3). Of IPv6 it
 * is not part of it (RFC 8200 §4.5), and a later fragment cannot tell the protocol behind extension headers.
 */
function metaOf({ version, protocol }: EgressPacket): number {
  return version === 4 ? 4 | (protocol << 8) : 6;
}

function setOf(packet: EgressPacket): number {
  const key = packet.fragmentId ^ packet.dst3 ^ packet.src3;
  return (key ^ (key >>> 6) ^ (key >>> 16)) & (SETS - 1);
}
