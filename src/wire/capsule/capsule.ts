/**
 * The Capsule Protocol (RFC 9297 §3.2): a sequence of typed values on the data stream of a request.
 *
 *   +---------------+-----------------+----------------+
 *   | Type (varint) | Length (varint) | Value (Length) |
 *   +---------------+-----------------+----------------+
 */
import { ProtocolError } from "../../base/errors.ts";
import { ByteQueue } from "../byte_queue.ts";
import { H3_DATAGRAM_ERROR, H3_MESSAGE_ERROR } from "../h3/codes.ts";
import { readVarint, varintLength, varintSize, writeVarint } from "../varint.ts";

/** One capsule. */
export interface Capsule {
  readonly type: number;
  readonly value: Uint8Array<ArrayBuffer>;
}

/** What a {@linkcode CapsuleReader} accepts. */
export interface CapsuleReaderOptions {
  /** The longest value to hold in memory; a longer one of a known type is an error. */
  readonly maxLength: number;
  /** Types to hand out. The others are skipped however long they are; without this, none is skipped. */
  readonly known?: ReadonlySet<number>;
}

/** Writes one capsule. */
export function encodeCapsule(type: number, value: Uint8Array): Uint8Array<ArrayBuffer> {
  const capsule = new Uint8Array(varintSize(type) + varintSize(value.length) + value.length);
  const offset = writeVarint(capsule, writeVarint(capsule, 0, type), value.length);
  capsule.set(value, offset);
  return capsule;
}

/**
 * Reads capsules from chunks of any size. Drive it: `push()` a chunk, then `next()` until it returns
 * `undefined`; it then holds less than one capsule. `end()` when the stream ended cleanly.
 */
export class CapsuleReader {
  readonly #maxLength: number;
  readonly #known: ReadonlySet<number> | undefined;
  readonly #queue = new ByteQueue();
  /** Bytes of an unknown capsule still to be dropped. */
  #toSkip = 0;

  constructor({ maxLength, known }: CapsuleReaderOptions) {
    this.#maxLength = maxLength;
    this.#known = known;
  }

  /** Appends a chunk; what belongs to a skipped capsule is not kept. */
  push(bytes: Uint8Array): void {
    const skipped = Math.min(this.#toSkip, bytes.length);
    this.#toSkip -= skipped;
    if (skipped < bytes.length) this.#queue.push(bytes.subarray(skipped));
  }

  /** Returns the next capsule, or `undefined` when more bytes are needed. */
  next(): Capsule | undefined {
    for (;;) {
      const header = readCapsuleHeader(this.#queue.bytes);
      if (header === undefined) return undefined;
      const { type, length, size } = header;
      // RFC 9297 §3.2: a capsule of unknown type is dropped in silence, and what follows it is read.
      if (this.#known !== undefined && !this.#known.has(type)) {
        this.#skip(size, length);
        continue;
      }
      if (length > this.#maxLength) {
        throw new ProtocolError("stream", H3_DATAGRAM_ERROR, `Capsule of ${length} bytes is too long`);
      }
      if (this.#queue.length < size + length) return undefined;
      return { type, value: this.#queue.take(size + length).subarray(size) };
    }
  }

  /** The stream ended cleanly; throws when it did so inside a capsule. */
  end(): void {
    // RFC 9297 §3.3: a truncated last capsule makes the message malformed.
    if (this.#queue.length > 0 || this.#toSkip > 0) throw truncatedCapsule();
  }

  #skip(headerSize: number, length: number): void {
    this.#queue.take(headerSize);
    const waiting = Math.min(length, this.#queue.length);
    this.#queue.take(waiting);
    this.#toSkip = length - waiting;
  }
}

/** Where a capsule's value begins and how long it is. */
export interface CapsuleHeader {
  readonly type: number;
  readonly length: number;
  /** Bytes of type and length themselves. */
  readonly size: number;
}

/** The most bytes of a capsule's type and length. */
export const MAX_CAPSULE_HEADER = 16;

/** Reads type and length at the start of `bytes`; `undefined` when they are not all there. */
export function readCapsuleHeader(bytes: Uint8Array): CapsuleHeader | undefined {
  const first = bytes[0];
  if (first === undefined) return undefined;
  const typeSize = varintLength(first);
  const second = bytes[typeSize];
  if (second === undefined) return undefined;
  const size = typeSize + varintLength(second);
  if (bytes.length < size) return undefined;
  return { type: readVarint(bytes, 0), length: readVarint(bytes, typeSize), size };
}

/** The error of a data stream that ended inside a capsule. */
export function truncatedCapsule(): ProtocolError {
  return new ProtocolError("stream", H3_MESSAGE_ERROR, "Stream ended inside a capsule");
}
