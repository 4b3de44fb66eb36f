/**
 * Reads a pipe one buffer ahead of its consumer: while the consumer writes one buffer to the next hop, the
 * transport already fills the other. Buffers start small, for idle streams, and grow with the traffic.
 */

import { HEADROOM } from "../../base/channel.ts";
import type { Pipe } from "./pipe.ts";

/** First buffer size in bytes: an idle stream pins two of them. */
export const MIN_READ_SIZE = 2048;

/** Largest buffer size in bytes: a busy stream pins two of them. */
export const MAX_READ_SIZE = 131_072;

/** Reads in a row that leave most of a buffer empty before it shrinks. */
const SHRINK_AFTER = 32;

/** Two buffers taking turns between a pipe and its consumer. */
export class ReadAhead {
  readonly #pipe: Pipe;
  #size = MIN_READ_SIZE;
  #small = 0;
  /** The buffer of the view that the consumer holds. */
  #lent: ArrayBuffer | undefined;
  #pending: Promise<Uint8Array<ArrayBuffer> | null> | undefined;

  constructor(pipe: Pipe) {
    this.#pipe = pipe;
  }

  /**
   * Resolves with the next bytes, {@linkcode HEADROOM} bytes into their buffer, or `null` at the end. The
   * view of the call before is invalid from now on.
   */
  async next(): Promise<Uint8Array<ArrayBuffer> | null> {
    const view = await (this.#pending ?? this.#fill(undefined));
    if (view === null) {
      this.#pending = END;
      this.#lent = undefined;
      return null;
    }
    this.#adapt(view.length);
    const free = this.#lent;
    this.#lent = view.buffer;
    this.#pending = this.#fill(free);
    return view;
  }

  #fill(free: ArrayBuffer | undefined): Promise<Uint8Array<ArrayBuffer> | null> {
    const length = HEADROOM + this.#size;
    const buffer = free?.byteLength === length ? free : new ArrayBuffer(length);
    const filled = this.#pipe.read(new Uint8Array(buffer, HEADROOM));
    // Nobody may ask for what was read ahead; its failure then is of no interest.
    filled.catch(ignore);
    return filled;
  }

  #adapt(length: number): void {
    if (length === this.#size) {
      this.#size = Math.min(this.#size * 8, MAX_READ_SIZE);
      this.#small = 0;
    } else if (length >= this.#size / 8) {
      this.#small = 0;
    } else if (++this.#small === SHRINK_AFTER) {
      this.#size = Math.max(this.#size / 8, MIN_READ_SIZE);
      this.#small = 0;
    }
  }
}

const END: Promise<null> = Promise.resolve(null);

function ignore(): void {}
