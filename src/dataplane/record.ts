/**
 * Sealed records: the units in which a flow crosses the relay, each authenticated by ChaCha20-Poly1305 under
 * its flow's and direction's key.
 *
 * ```text
 *  0       1       2           5                  13             29
 * +-------+-------+-----------+------------------+--------------+------------------+
 * | type  | flags | length    | sequence         | tag          | ciphertext       |
 * | u8    | u8, 0 | u24       | u64              | 16 bytes     | `length` bytes   |
 * +-------+-------+-----------+------------------+--------------+------------------+
 *  \_______ header: the additional data ________/
 * ```
 *
 * All numbers are big-endian. The sequence starts at 0 and counts every record of its direction; the nonce is the
 * direction's base with the sequence XORed into its end. The sequence is on the wire so that a flow can later be
 * striped over several streams. The tag stands in front so that a record opens while it arrives.
 */

import { type CipherChaCha20Poly1305, createCipheriv, createDecipheriv } from "node:crypto";
import type { DecipherChaCha20Poly1305 } from "node:crypto";
import { HEADROOM } from "../base/channel.ts";
import { DataplaneError } from "./errors.ts";
import type { DirectionKey } from "./flow_keys.ts";
import { Nonce } from "./nonce.ts";

/** What a record is for. */
export const RECORD_TYPE = {
  /** Agent's first record: the authenticated flow header. */
  OPEN: 1,
  /** Connector's consent: bytes may follow. */
  OPENED: 2,
  /** Bytes of the flow. */
  DATA: 3,
  /** Clean end of this direction. */
  FIN: 4,
  /** Abrupt end of the flow, or its refusal: one byte of reason. */
  RESET: 5,
} as const;

/** One of the values of {@linkcode RECORD_TYPE}. */
export type RecordType = typeof RECORD_TYPE[keyof typeof RECORD_TYPE];

/** Bytes that a record adds to its plaintext: header and tag. */
export const RECORD_OVERHEAD = 29;

/** Most plaintext in a DATA record, in bytes; an end buffers at most one record. */
export const MAX_RECORD_DATA = 65_536;

/** Most plaintext in an OPEN record, in bytes: a service name and two SPIFFE IDs fit many times over. */
export const MAX_OPEN_DATA = 8_192;

const HEADER_LENGTH = 13;
const TAG_LENGTH = 16;
const ALGORITHM = "chacha20-poly1305";
const CIPHER_OPTIONS = { authTagLength: TAG_LENGTH };
/** Records per direction, far above need: keeps the upper half of every sequence number zero. */
const MAX_RECORDS = 2 ** 32;
const SMALLEST_BUFFER = 2_048;

/** Least and most plaintext of each type. */
const LENGTH_BOUNDS: Readonly<Record<number, readonly [least: number, most: number]>> = {
  [RECORD_TYPE.OPEN]: [1, MAX_OPEN_DATA],
  [RECORD_TYPE.OPENED]: [0, 0],
  [RECORD_TYPE.DATA]: [1, MAX_RECORD_DATA],
  [RECORD_TYPE.FIN]: [0, 0],
  [RECORD_TYPE.RESET]: [1, 1],
};

/** Seals one direction of one flow. */
export class RecordSealer {
  readonly #key: Uint8Array;
  readonly #nonce: Nonce;
  #sequence = 0;

  constructor(key: DirectionKey) {
    this.#key = key.key;
    this.#nonce = new Nonce(key.nonceBase);
  }

  /** Writes one record into `target` at `offset`; returns the offset after it. */
  seal(
    type: RecordType,
    plaintext: Uint8Array,
    { target, offset }: { readonly target: Uint8Array; readonly offset: number },
  ): number {
    const sequence = this.#sequence++;
    // A nonce must never serve twice, so a direction ends rather than wrap around.
    if (sequence >= MAX_RECORDS) throw new DataplaneError("ERR_SESSION_CLOSED", "Flow used up its records");
    const length = plaintext.length;
    target[offset] = type;
    target[offset + 1] = 0;
    target[offset + 2] = length >>> 16;
    target[offset + 3] = length >>> 8;
    target[offset + 4] = length;
    target.fill(0, offset + 5, offset + 9);
    target[offset + 9] = sequence >>> 24;
    target[offset + 10] = sequence >>> 16;
    target[offset + 11] = sequence >>> 8;
    target[offset + 12] = sequence;
    const body = offset + RECORD_OVERHEAD;
    const cipher: CipherChaCha20Poly1305 = createCipheriv(
      ALGORITHM,
      this.#key,
      this.#nonce.at(sequence),
      CIPHER_OPTIONS,
    );
    cipher.setAAD(target.subarray(offset, offset + HEADER_LENGTH), { plaintextLength: length });
    if (length > 0) target.set(cipher.update(plaintext), body);
    cipher.final();
    target.set(cipher.getAuthTag(), offset + HEADER_LENGTH);
    return body + length;
  }
}

/** An authentic record; `data` is valid until the opener's next `push()`, with headroom in front of it. */
export interface OpenedRecord {
  readonly type: RecordType;
  readonly data: Uint8Array<ArrayBuffer>;
}

/**
 * Opens one direction of one flow from chunks cut anywhere. Drive it with `push()` until it has consumed a chunk,
 * taking `record` after each call. It buffers at most one record, releases no byte before its tag was checked,
 * and is spent after it threw.
 */
export class RecordOpener {
  readonly #key: Uint8Array;
  readonly #nonce: Nonce;
  readonly #prefix = new Uint8Array(RECORD_OVERHEAD);
  #prefixLength = 0;
  #plain = new Uint8Array(0);
  #decipher: DecipherChaCha20Poly1305 | undefined;
  #length = 0;
  #received = 0;
  #sequence = 0;

  /** The record that the last `push()` completed. */
  record: OpenedRecord | undefined;

  constructor(key: DirectionKey) {
    this.#key = key.key;
    this.#nonce = new Nonce(key.nonceBase);
  }

  /** True between two records: an end of the stream here cuts none of them. */
  get isBetweenRecords(): boolean {
    return this.#prefixLength === 0;
  }

  /** Takes bytes of `chunk` from `offset` up to the end of the record in progress; returns the offset reached. */
  push(chunk: Uint8Array, offset: number): number {
    this.record = undefined;
    let at = offset;
    if (this.#prefixLength < RECORD_OVERHEAD) {
      const part = chunk.subarray(at, at + RECORD_OVERHEAD - this.#prefixLength);
      this.#prefix.set(part, this.#prefixLength);
      this.#prefixLength += part.length;
      at += part.length;
      // The header is judged as soon as it is there: nothing waits for bytes of a record that cannot be.
      if (this.#decipher === undefined && this.#prefixLength >= HEADER_LENGTH) this.#begin();
      if (this.#prefixLength < RECORD_OVERHEAD) return at;
    }
    const body = chunk.subarray(at, at + this.#length - this.#received);
    if (body.length > 0) {
      this.#plain.set(this.#decipher!.update(body), HEADROOM + this.#received);
      this.#received += body.length;
      at += body.length;
    }
    if (this.#received === this.#length) this.#finish();
    return at;
  }

  #begin(): void {
    const prefix = this.#prefix;
    const type = prefix[0]!;
    const bounds = LENGTH_BOUNDS[type];
    if (bounds === undefined || prefix[1] !== 0) {
      throw new DataplaneError("ERR_RECORD_MALFORMED", `Unknown record type ${type} or flags ${prefix[1]}`);
    }
    const length = prefix[2]! << 16 | prefix[3]! << 8 | prefix[4]!;
    if (length > bounds[1]) {
      throw new DataplaneError("ERR_RECORD_TOO_LONG", `Record of type ${type} claims ${length} bytes`);
    }
    if (length < bounds[0]) {
      throw new DataplaneError("ERR_RECORD_MALFORMED", `Record of type ${type} carries ${length} bytes`);
    }
    const view = new DataView(prefix.buffer);
    const sequence = view.getUint32(5) * 2 ** 32 + view.getUint32(9);
    if (sequence !== this.#sequence || sequence >= MAX_RECORDS) {
      throw new DataplaneError("ERR_RECORD_SEQUENCE", `Expected record ${this.#sequence}, got ${sequence}`);
    }
    const decipher = createDecipheriv(ALGORITHM, this.#key, this.#nonce.at(sequence), CIPHER_OPTIONS);
    decipher.setAAD(prefix.subarray(0, HEADER_LENGTH), { plaintextLength: length });
    this.#decipher = decipher;
    this.#length = length;
    this.#received = 0;
    if (this.#plain.length < HEADROOM + length) this.#plain = new Uint8Array(HEADROOM + bufferSize(length));
  }

  #finish(): void {
    const decipher = this.#decipher!;
    decipher.setAuthTag(this.#prefix.subarray(HEADER_LENGTH));
    try {
      decipher.final();
    } catch (cause) {
      this.#plain.fill(0);
      throw new DataplaneError("ERR_RECORD_FORGED", `Record ${this.#sequence} does not authenticate`, {
        cause,
      });
    }
    this.record = {
      type: this.#prefix[0] as RecordType,
      data: this.#plain.subarray(HEADROOM, HEADROOM + this.#length),
    };
    this.#decipher = undefined;
    this.#prefixLength = 0;
    this.#sequence++;
  }
}

/** Rounds up to a power of two, so that a growing flow reallocates a few times only. */
function bufferSize(length: number): number {
  return Math.max(SMALLEST_BUFFER, 2 ** Math.ceil(Math.log2(length)));
}
