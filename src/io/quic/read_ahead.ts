/**
 * Reads a QUIC stream one buffer ahead of its consumer: while the consumer writes one buffer to the next hop,
 * the transport already fills the other.
 */

import { HEADROOM } from "../../base/channel.ts";
import { allocateWithHeadroom, markHeadroom } from "../../base/headroom.ts";
import { ReadSize } from "../h3/read_size.ts";

/** Reads into `target`, whose buffer moves into the result; `null` at the end. */
export type ReadInto = (target: Uint8Array<ArrayBuffer>) => Promise<Uint8Array<ArrayBuffer> | null>;

/** Two buffers taking turns between a stream and its consumer. */
export class ReadAhead {
  readonly #read: ReadInto;
  readonly #size = new ReadSize();
  /** The view that the consumer holds. */
  #lent: Uint8Array<ArrayBuffer> | undefined;
  #pending: Promise<Uint8Array<ArrayBuffer> | null> | undefined;

  constructor(read: ReadInto) {
    this.#read = read;
  }

  /** As `Pipe.next()`. */
  async next(): Promise<Uint8Array<ArrayBuffer> | null> {
    const view = await (this.#pending ?? this.#fill());
    if (view === null) {
      this.#pending = END;
      this.#lent = undefined;
      return null;
    }
    // The consumer is back, so the buffer it held is free for the next read.
    this.#pending = this.#fill(this.#lent);
    this.#lent = view;
    return view;
  }

  #fill(free?: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer> | null> {
    const length = this.#size.current;
    const target = free?.buffer.byteLength === HEADROOM + length
      ? new Uint8Array(free.buffer, HEADROOM)
      : allocateWithHeadroom(length);
    const filled = this.#read(target).then((view) => {
      if (view === null) return null;
      markHeadroom(view.buffer);
      this.#size.adapt(view.length, length);
      return view;
    });
    // Nobody may ask for what was read ahead; its failure then is of no interest.
    filled.catch(ignore);
    return filled;
  }
}

const END: Promise<null> = Promise.resolve(null);

function ignore(): void {}
