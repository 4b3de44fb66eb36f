/**
 * Tells a number seen for the first time from one seen before, within a sliding window of fixed memory. Numbers, not
 * bigints: datagrams ask for each of them.
 */

/** Numbers below the highest seen that can still be told apart; older ones count as seen. 512 bytes of memory. */
export const REPLAY_WINDOW_SIZE = 4_096;

const WORD_BITS = 32;
const WORDS = REPLAY_WINDOW_SIZE / WORD_BITS;

/** A sliding replay window over safe integers from 0 that mostly rise. */
export class ReplayWindow {
  readonly #seen = new Uint32Array(WORDS);
  /** Lowest number above all that were seen. */
  #next = 0;

  /** Whether `id` would be accepted now. */
  isFresh(id: number): boolean {
    if (id >= this.#next) return true;
    if (this.#next - id > REPLAY_WINDOW_SIZE) return false;
    return (this.#seen[wordOf(id)]! & maskOf(id)) === 0;
  }

  /** True if `id` was not accepted before; false if it was, or is too old to know. */
  accept(id: number): boolean {
    if (!this.isFresh(id)) return false;
    if (id >= this.#next) this.#advance(id);
    this.#seen[wordOf(id)]! |= maskOf(id);
    return true;
  }

  #advance(id: number): void {
    if (id - this.#next >= REPLAY_WINDOW_SIZE) {
      this.#seen.fill(0);
    } else {
      for (let skipped = this.#next; skipped <= id; skipped++) {
        this.#seen[wordOf(skipped)]! &= ~maskOf(skipped);
      }
    }
    this.#next = id + 1;
  }
}

function wordOf(id: number): number {
  return (id % REPLAY_WINDOW_SIZE) >>> 5;
}

function maskOf(id: number): number {
  return 1 << (id % WORD_BITS);
}
