/**
 * How large a stream's read buffers are: small while it is idle, large while it carries much.
 */

/** First buffer size in bytes: what an idle stream pins. */
export const MIN_READ_SIZE = 2048;

/** Largest buffer size in bytes: a busy stream pins two of them. */
export const MAX_READ_SIZE = 131_072;

/** A read that fills its buffer makes the next this much larger. */
const GROWTH = 8;

/** Reads in a row that leave most of a buffer empty before it shrinks. */
const SHRINK_AFTER = 32;

/** Follows the size of what is read. */
export class ReadSize {
  /** Bytes of the next buffer. */
  current = MIN_READ_SIZE;
  #small = 0;

  /** A read brought `length` bytes and found `room` for them. */
  adapt(length: number, room: number): void {
    if (length === room) {
      this.current = Math.min(this.current * GROWTH, MAX_READ_SIZE);
      this.#small = 0;
    } else if (length >= this.current / GROWTH) {
      this.#small = 0;
    } else if (++this.#small === SHRINK_AFTER) {
      this.current = Math.max(this.current / GROWTH, MIN_READ_SIZE);
      this.#small = 0;
    }
  }
}
