/**
 * A map from IP addresses to values whose look-up allocates nothing: open addressing over the four words of a packet view, in
 * typed arrays.
 */

import type { IpVersion } from "../base/ip.ts";

const MIN_SLOTS = 16;
const WORDS = 4;

/** Maps the addresses of both versions to values. */
export class AddressIndex<V> {
  /** A power of two, at most half of them used: a run of used slots stays short. */
  #slots = MIN_SLOTS;
  #size = 0;
  #words = new Uint32Array(MIN_SLOTS * WORDS);
  /** Version of the address in each slot; 0 means that the slot is empty. */
  #versions = new Uint8Array(MIN_SLOTS);
  #values: (V | undefined)[] = new Array(MIN_SLOTS).fill(undefined);

  /** How many addresses it holds. */
  get size(): number {
    return this.#size;
  }

  /** The value of an address. The words are those of a packet view. */
  get(version: IpVersion, w0: number, w1: number, w2: number, w3: number): V | undefined {
    return this.#values[this.#find(version, w0, w1, w2, w3)];
  }

  /** Sets the value of an address. */
  set(version: IpVersion, words: readonly [number, number, number, number], value: V): void {
    if ((this.#size + 1) * 2 > this.#slots) this.#grow();
    const slot = this.#find(version, ...words);
    if (this.#versions[slot] === 0) this.#size++;
    this.#versions[slot] = version;
    this.#words.set(words, slot * WORDS);
    this.#values[slot] = value;
  }

  /** Forgets an address. */
  delete(version: IpVersion, words: readonly [number, number, number, number]): void {
    let hole = this.#find(version, ...words);
    if (this.#versions[hole] === 0) return;
    this.#size--;
    // Whatever stands behind in the same run moves up when the hole lies on its way from its own slot.
    const mask = this.#slots - 1;
    for (let slot = (hole + 1) & mask; this.#versions[slot] !== 0; slot = (slot + 1) & mask) {
      const home = this.#homeOf(slot);
      if (((slot - home) & mask) < ((slot - hole) & mask)) continue;
      this.#move(slot, hole);
      hole = slot;
    }
    this.#versions[hole] = 0;
    this.#values[hole] = undefined;
  }

  /** The slot of an address, or the empty one where it would go. */
  #find(version: IpVersion, w0: number, w1: number, w2: number, w3: number): number {
    const mask = this.#slots - 1;
    const words = this.#words;
    let slot = hash(w0, w1, w2, w3) & mask;
    while (this.#versions[slot] !== 0) {
      const at = slot * WORDS;
      if (
        words[at + 3] === w3 && words[at + 2] === w2 && words[at + 1] === w1 && words[at] === w0 &&
        this.#versions[slot] === version
      ) return slot;
      slot = (slot + 1) & mask;
    }
    return slot;
  }

  #homeOf(slot: number): number {
    const at = slot * WORDS;
    const words = this.#words;
    return hash(words[at]!, words[at + 1]!, words[at + 2]!, words[at + 3]!) & (this.#slots - 1);
  }

  #move(from: number, to: number): void {
    this.#words.copyWithin(to * WORDS, from * WORDS, (from + 1) * WORDS);
    this.#versions[to] = this.#versions[from]!;
    this.#values[to] = this.#values[from];
  }

  #grow(): void {
    const words = this.#words;
    const versions = this.#versions;
    const values = this.#values;
    this.#slots *= 2;
    this.#words = new Uint32Array(this.#slots * WORDS);
    this.#versions = new Uint8Array(this.#slots);
    this.#values = new Array(this.#slots).fill(undefined);
    for (const [slot, version] of versions.entries()) {
      if (version === 0) continue;
      const at = slot * WORDS;
      const to = this.#find(version as IpVersion, words[at]!, words[at + 1]!, words[at + 2]!, words[at + 3]!);
      this.#words.set(words.subarray(at, at + WORDS), to * WORDS);
      this.#versions[to] = version;
      this.#values[to] = values[slot];
    }
  }
}

/** Multiplies and folds, so that neighbours in a pool and in many pools spread evenly. */
function hash(w0: number, w1: number, w2: number, w3: number): number {
  let mixed = Math.imul(w3, 0x9e3779b1) ^ Math.imul(w2, 0x85ebca6b) ^ Math.imul(w1, 0xc2b2ae35) ^
    Math.imul(w0, 0x27d4eb2f);
  mixed = Math.imul(mixed ^ (mixed >>> 15), 0x2c1b3c6d);
  return mixed ^ (mixed >>> 13);
}
