/**
 * The nonces of one direction: its base with a number XORed into the end, as RFC 8446 §5.3 does.
 */

/** A direction's nonce, rewritten in place for each number. */
export class Nonce {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #base: number;

  constructor(base: Uint8Array) {
    this.#bytes = base.slice();
    this.#view = new DataView(this.#bytes.buffer);
    this.#base = this.#view.getUint32(8);
  }

  /** The nonce of a number below 2^32; valid until the next call. */
  at(number: number): Uint8Array {
    this.#view.setUint32(8, (this.#base ^ number) >>> 0);
    return this.#bytes;
  }
}
