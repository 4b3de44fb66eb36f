/**
 * A growing queue of bytes for decoders that need a whole message before they can read it. It copies what it
 * is given, because views handed out by a channel live only until its next read.
 */

const FIRST_SIZE = 256;

/** First in, first out, contiguous: {@linkcode ByteQueue.bytes} is always one view. */
export class ByteQueue {
  #buffer = new Uint8Array(0);
  #start = 0;
  #end = 0;

  /** How many bytes wait. */
  get length(): number {
    return this.#end - this.#start;
  }

  /** What waits; valid until the next {@linkcode push}. */
  get bytes(): Uint8Array<ArrayBuffer> {
    return this.#buffer.subarray(this.#start, this.#end);
  }

  /** Appends a copy of `bytes`. */
  push(bytes: Uint8Array): void {
    if (this.#end + bytes.length > this.#buffer.length) this.#makeRoom(bytes.length);
    this.#buffer.set(bytes, this.#end);
    this.#end += bytes.length;
  }

  /** Removes the first `count` bytes and returns them; valid until the next {@linkcode push}. */
  take(count: number): Uint8Array<ArrayBuffer> {
    if (count > this.length) throw new RangeError(`Cannot take ${count} bytes: ${this.length} wait`);
    const taken = this.#buffer.subarray(this.#start, this.#start + count);
    this.#start += count;
    return taken;
  }

  /** Moves what waits to the front of a buffer that holds `more` too; doubling keeps appending linear. */
  #makeRoom(more: number): void {
    const needed = this.length + more;
    const size = Math.max(FIRST_SIZE, needed > this.#buffer.length / 2 ? 2 * needed : this.#buffer.length);
    const buffer = new Uint8Array(size);
    buffer.set(this.bytes);
    this.#end = this.length;
    this.#start = 0;
    this.#buffer = buffer;
  }
}
