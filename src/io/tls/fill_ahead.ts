/**
 * Reads a TLS connection ahead of its consumer. The runtime hands out one TLS record (16 KiB at most) per read;
 * while the consumer is busy, several gather in one buffer and are handed over together.
 */

import { allocateWithHeadroom } from "../../base/headroom.ts";
import { ReadSize } from "../h3/read_size.ts";

/** Reads into `target` and returns how many bytes came, or `null` at the end. */
export type FillInto = (target: Uint8Array<ArrayBuffer>) => Promise<number | null>;

/**
 * Two buffers taking turns. Bytes go from `#start` to `#end` of the current one; a read under way fills what
 * is behind `#end`, which never overlaps a view handed out.
 */
export class FillAhead {
  readonly #fill: FillInto;
  readonly #size = new ReadSize();
  #current = allocateWithHeadroom(this.#size.current);
  #spare: Uint8Array<ArrayBuffer> | undefined;
  #start = 0;
  #end = 0;
  #reading = false;
  #ended = false;
  #failure: { readonly error: unknown } | undefined;
  #wake: (() => void) | undefined;

  constructor(fill: FillInto) {
    this.#fill = fill;
  }

  /** As `Pipe.next()`. */
  async next(): Promise<Uint8Array<ArrayBuffer> | null> {
    while (this.#start === this.#end) {
      if (this.#failure !== undefined) throw this.#failure.error;
      if (this.#ended) return null;
      this.#readMore();
      await new Promise<void>((resolve) => this.#wake = resolve);
      this.#wake = undefined;
    }
    const view = this.#current.subarray(this.#start, this.#end);
    this.#start = this.#end;
    if (!this.#reading) this.#turn(view.length);
    this.#readMore();
    return view;
  }

  /** Goes on in the other buffer when the rest of this one is too small to be worth a read. */
  #turn(length: number): void {
    const room = this.#current.length;
    if (room - this.#end >= room / 4) return;
    this.#size.adapt(length, length > room / 2 ? length : room);
    const wanted = this.#size.current;
    const next = this.#spare?.length === wanted ? this.#spare : allocateWithHeadroom(wanted);
    this.#spare = this.#current;
    this.#current = next;
    this.#start = 0;
    this.#end = 0;
  }

  #readMore(): void {
    if (this.#reading || this.#ended || this.#failure !== undefined) return;
    if (this.#end === this.#current.length) return;
    this.#reading = true;
    this.#fill(this.#current.subarray(this.#end)).then(
      (length) => {
        this.#reading = false;
        if (length === null) this.#ended = true;
        else this.#end += length;
        this.#wake?.();
        // While the consumer is busy, the rest of the buffer fills up.
        if (length !== null && this.#wake === undefined) this.#readMore();
      },
      (error) => {
        this.#reading = false;
        this.#failure = { error };
        this.#wake?.();
      },
    );
  }
}
