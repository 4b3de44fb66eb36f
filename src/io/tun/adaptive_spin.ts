/**
 * How long to look again and again before a thread is asked to wait. That hop costs two wake-ups of a processor, some
 * 100 to 200 µs where it was idle; looking costs only time of ours. Grows while packets come soon, and vanishes
 * when they do not (the rule of Linux's `halt_poll_ns`).
 */

/** The longest look, in milliseconds; a packet that comes later is worth a wait. */
const LONGEST_MS = 0.25;
/** The first look after a time without. */
const FIRST_MS = 0.03;

/** Learns from each wait how long to look before the next; times are in milliseconds. */
export class AdaptiveSpin {
  #budget = 0;

  /** How long to look before waiting. */
  get budget(): number {
    return this.#budget;
  }

  /** Records how long it took until packets came. */
  waited(duration: number): void {
    if (duration > 2 * LONGEST_MS) this.#budget = 0;
    else if (duration > this.#budget) {
      this.#budget = Math.min(Math.max(2 * this.#budget, FIRST_MS), LONGEST_MS);
    }
  }
}
