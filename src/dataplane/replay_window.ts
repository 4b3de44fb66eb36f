/**
 * Tells a number seen for the first time from one seen before, within a sliding window of fixed memory.
 */

/** Numbers below the highest seen that can still be told apart; older ones count as seen. 512 bytes of memory. */
export const REPLAY_WINDOW_SIZE = 4_096;

const WORD_BITS = 32;
const WORDS = REPLAY_WINDOW_SIZE / WORD_BITS;

/** A sliding replay window over unsigned 64-bit numbers that mostly rise. */
export class ReplayWindow {
  readonly #seen = new Uint32Array(WORDS);
  /** Lowest number above all that were seen. */
  #next = 0n;

  /** True if `id` was not accepted before; false if it was, or is too old to know. */
  accept(id: bigint): boolean {
    if (id >= this.#next) {
      this.#advance(id);
    } else if (this.#next - id > BigInt(REPLAY_WINDOW_SIZE)) {
      return false;
    }
    const slot = slotOf(id);
    const word = this.#seen[slot.word]!;
    if ((word & slot.mask) !== 0) return false;
    this.#seen[slot.word] = word | slot.mask;
    return true;
  }

  #advance(id: bigint): void {
    if (id - this.#next >= BigInt(REPLAY_WINDOW_SIZE)) {
      this.#seen.fill(0);
    } else {
      for (let skipped = this.#next; skipped <= id; skipped++) {
        const slot = slotOf(skipped);
        this.#seen[slot.word]! &= ~slot.mask;
      }
    }
    this.#next = id + 1n;
  }
}

function slotOf(id: bigint): { readonly word: number; readonly mask: number } {
  const position = Number(id % BigInt(REPLAY_WINDOW_SIZE));
  return { word: position >>> 5, mask: 1 << (position & 31) };
}
