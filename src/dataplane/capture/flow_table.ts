/**
 * Finds what belongs to a packet's flow by its addresses, ports and protocol, without an allocation per packet.
 */

import type { PacketView } from "../../wire/packet/packet_view.ts";

/** What names a flow; a packet view has it. */
type FlowName = Pick<
  PacketView,
  | "version"
  | "protocol"
  | "src0"
  | "src1"
  | "src2"
  | "src3"
  | "dst0"
  | "dst1"
  | "dst2"
  | "dst3"
  | "srcPort"
  | "dstPort"
>;

/** Something in a {@linkcode FlowTable}, under the name of the packet that it was made for. */
export class FlowEntry {
  readonly version: 4 | 6;
  readonly protocol: number;
  readonly srcPort: number;
  readonly dstPort: number;
  readonly #src: readonly [number, number, number, number];
  readonly #dst: readonly [number, number, number, number];
  /** The next of those that share a place in the table; the table's own. */
  nextInTable: FlowEntry | undefined;

  constructor(packet: FlowName) {
    this.version = packet.version;
    this.protocol = packet.protocol;
    this.srcPort = packet.srcPort;
    this.dstPort = packet.dstPort;
    this.#src = [packet.src0, packet.src1, packet.src2, packet.src3];
    this.#dst = [packet.dst0, packet.dst1, packet.dst2, packet.dst3];
  }

  /** Whether a packet is of this flow. */
  matches(packet: FlowName): boolean {
    // The version needs no look: IPv4-mapped addresses are refused before.
    return this.srcPort === packet.srcPort && this.dstPort === packet.dstPort &&
      this.protocol === packet.protocol && this.#dst[3] === packet.dst3 && this.#src[3] === packet.src3 &&
      this.#dst[2] === packet.dst2 && this.#src[2] === packet.src2 && this.#dst[1] === packet.dst1 &&
      this.#src[1] === packet.src1 && this.#dst[0] === packet.dst0 && this.#src[0] === packet.src0;
  }

  /** The flow's place in a table with that seed. */
  place(seed: number): number {
    const [src0, src1, src2, src3] = this.#src;
    const [dst0, dst1, dst2, dst3] = this.#dst;
    const { version, protocol, srcPort, dstPort } = this;
    return placeOf(
      { version, protocol, srcPort, dstPort, src0, src1, src2, src3, dst0, dst1, dst2, dst3 },
      seed,
    );
  }
}

/** Entries by flow. Who bounds them is the owner. */
export class FlowTable<E extends FlowEntry> implements Iterable<E> {
  readonly #places = new Map<number, E>();
  /** Chosen by chance, so that nobody can aim flows at one place. */
  readonly #seed = crypto.getRandomValues(new Int32Array(1))[0]!;
  #size = 0;

  /** How many there are. */
  get size(): number {
    return this.#size;
  }

  /** The entry of a packet's flow. */
  find(packet: FlowName): E | undefined {
    let entry = this.#places.get(placeOf(packet, this.#seed));
    while (entry !== undefined && !entry.matches(packet)) entry = entry.nextInTable as E | undefined;
    return entry;
  }

  /** Adds an entry; there must be none of its flow. */
  add(entry: E): void {
    const place = entry.place(this.#seed);
    entry.nextInTable = this.#places.get(place);
    this.#places.set(place, entry);
    this.#size++;
  }

  /** Takes an entry out; nothing when it is not in. */
  delete(entry: E): void {
    const place = entry.place(this.#seed);
    let at = this.#places.get(place);
    if (at === entry) {
      const next = entry.nextInTable as E | undefined;
      if (next === undefined) this.#places.delete(place);
      else this.#places.set(place, next);
    } else {
      while (at !== undefined && at.nextInTable !== entry) at = at.nextInTable as E | undefined;
      if (at === undefined) return;
      at.nextInTable = entry.nextInTable;
    }
    entry.nextInTable = undefined;
    this.#size--;
  }

  *[Symbol.iterator](): Iterator<E> {
    for (const first of this.#places.values()) {
      for (let entry: E | undefined = first; entry !== undefined;) {
        // Whoever walks may take the entry out.
        const next = entry.nextInTable as E | undefined;
        yield entry;
        entry = next;
      }
    }
  }
}

/** A number of 32 bits with a sign: such keys of a map need no allocation. */
function placeOf(packet: FlowName, seed: number): number {
  let place = mix(seed, packet.dst3);
  place = mix(place, packet.src3);
  place = mix(place, (packet.srcPort << 16) | packet.dstPort);
  place = mix(place, packet.protocol);
  if (packet.version === 4) return place;
  place = mix(mix(mix(place, packet.dst0), packet.dst1), packet.dst2);
  return mix(mix(mix(place, packet.src0), packet.src1), packet.src2);
}

function mix(hash: number, word: number): number {
  const mixed = Math.imul(hash ^ word, 0x85eb_ca6b);
  return mixed ^ (mixed >>> 15);
}
