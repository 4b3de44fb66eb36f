/**
 * Prefix integers (RFC 7541 §5.1, RFC 9204 §4.1.1): a number that starts in the low bits of a byte whose
 * high bits mean something else, and goes on in groups of seven bits, lowest first, if it does not fit.
 *
 *   0   1   2   3   4   5   6   7
 * +---+---+---+---+---+---+---+---+      prefix of N bits: the value, or all ones and then
 * | ?   ?   ? |   Value (N bits)  |      1 xxxxxxx … 0 xxxxxxx, to be added to 2^N - 1
 * +---+---+---+---+---+---+---+---+
 */
import { ProtocolError } from "../../base/errors.ts";

/** How many bits of the first byte a prefix integer may use. */
export type PrefixBits = 3 | 4 | 5 | 6 | 7 | 8;

/** The most bytes {@linkcode writePrefixInt} writes for a length that fits memory. */
export const MAX_PREFIX_INT_SIZE = 6;

/** RFC 9204 §4.1.1: integers of up to 62 bits must be read; nine groups of seven hold them. */
const MAX_CONTINUATION_BYTES = 9;
const MAX_VALUE = 2 ** 62;

/** Reads prefix integers a byte at a time, so that it serves whole field sections and streams alike. */
export class PrefixIntReader {
  /** The number, once {@linkcode begin} or {@linkcode push} returned `true`; above 2^53-1 the nearest double. */
  value = 0;
  readonly #wireCode: number;
  #continuationBytes = 0;

  /** Faults are connection errors with `wireCode`. */
  constructor(wireCode: number) {
    this.#wireCode = wireCode;
  }

  /** Starts a number with its first byte; `true` when it is complete. */
  begin(byte: number, bits: PrefixBits): boolean {
    const full = (1 << bits) - 1;
    this.value = byte & full;
    this.#continuationBytes = 0;
    return this.value < full;
  }

  /** Takes the next byte; `true` when the number is complete. */
  push(byte: number): boolean {
    const shift = 7 * this.#continuationBytes++;
    this.value += (byte & 0x7f) * 2 ** shift;
    if (this.#continuationBytes > MAX_CONTINUATION_BYTES || this.value > MAX_VALUE) {
      // RFC 7541 §5.1: encodings beyond the implementation's limits are decoding errors.
      throw new ProtocolError("connection", this.#wireCode, "QPACK integer is longer than 62 bits");
    }
    return byte < 0x80;
  }
}

/** Where and how {@linkcode writePrefixInt} writes. */
export interface PrefixIntOptions {
  readonly value: number;
  readonly bits: PrefixBits;
  /** The high bits of the first byte, in place. */
  readonly flags: number;
}

/** Writes a number and returns the offset behind it; the caller made room. */
export function writePrefixInt(target: Uint8Array, offset: number, options: PrefixIntOptions): number {
  const { bits, flags } = options;
  const full = (1 << bits) - 1;
  if (options.value < full) {
    target[offset] = flags | options.value;
    return offset + 1;
  }
  target[offset++] = flags | full;
  let rest = options.value - full;
  while (rest >= 0x80) {
    target[offset++] = 0x80 | (rest % 0x80);
    rest = Math.floor(rest / 0x80);
  }
  target[offset++] = rest;
  return offset;
}
