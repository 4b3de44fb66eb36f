/**
 * HTTP/3 frames (RFC 9114 §7.1), read incrementally and without copying what may be large:
 *
 *   Type (varint) | Length (varint) | Payload (Length bytes)
 */

import { ProtocolError } from "../../base/errors.ts";
import { readVarint, varintLength, varintSize, writeVarint } from "../varint.ts";
import { H3_FRAME_ERROR } from "./codes.ts";

/** The most bytes a frame header with a safe-integer type and length takes. */
const MAX_FRAME_HEADER = 16;

/** Writes type and length at `offset` and returns the offset behind them; the caller made room. */
export function writeFrameHeader(
  target: Uint8Array,
  offset: number,
  frame: { readonly type: number; readonly length: number },
): number {
  return writeVarint(target, writeVarint(target, offset, frame.type), frame.length);
}

/** Returns how many bytes {@linkcode writeFrameHeader} writes. */
export function frameHeaderSize(type: number, length: number): number {
  return varintSize(type) + varintSize(length);
}

/** Returns one whole frame. */
export function encodeFrame(type: number, payload: Uint8Array): Uint8Array<ArrayBuffer> {
  const size = frameHeaderSize(type, payload.length);
  const bytes = new Uint8Array(size + payload.length);
  writeFrameHeader(bytes, 0, { type, length: payload.length });
  bytes.set(payload, size);
  return bytes;
}

/**
 * What to do with a frame whose header was read: collect its payload, hand it on in pieces, or skip it.
 */
export type FrameRule = "collect" | "stream" | "skip";

/** A whole collected frame, or the next piece of a streamed one. */
export interface FramePart {
  readonly type: number;
  /** A view of pushed or collected bytes, valid until the next `push()`. */
  readonly bytes: Uint8Array<ArrayBuffer>;
}

/**
 * Splits a stream into frames. Drive it: `push()` bytes, then `next()` until it returns `undefined`, and
 * only then `push()` again. `rule` sees every header before one payload byte is kept; it throws to refuse.
 */
export class FrameReader {
  readonly #rule: (type: number, length: number) => FrameRule;
  /** Header bytes so far, when a header was cut by the end of a chunk. */
  #header: Uint8Array<ArrayBuffer> | undefined;
  #headerLength = 0;
  #chunk: Uint8Array<ArrayBuffer> = EMPTY;
  #offset = 0;
  #type = -1;
  #mode: FrameRule = "skip";
  #remaining = 0;
  #inFrame = false;
  #collected: Uint8Array<ArrayBuffer> = EMPTY;
  #collectedLength = 0;

  constructor(rule: (type: number, length: number) => FrameRule) {
    this.#rule = rule;
  }

  /** Whether the bytes so far end inside a frame. */
  get midFrame(): boolean {
    return this.#inFrame || this.#headerLength > 0 || this.#offset < this.#chunk.length;
  }

  /** Hands over the next bytes; they must stay untouched until `next()` has returned `undefined`. */
  push(chunk: Uint8Array<ArrayBuffer>): void {
    if (this.#offset < this.#chunk.length) {
      throw new TypeError("Cannot push: the previous chunk has unread frames");
    }
    this.#chunk = chunk;
    this.#offset = 0;
  }

  /** Returns the next part, or `undefined` when more bytes are needed. */
  next(): FramePart | undefined {
    for (;;) {
      if (!this.#inFrame && !this.#readHeader()) return undefined;
      const available = this.#chunk.length - this.#offset;
      const take = Math.min(available, this.#remaining);
      const complete = take === this.#remaining;
      if (this.#mode === "collect") {
        const whole = this.#collect(take, complete);
        if (whole === undefined) return undefined;
        return { type: this.#type, bytes: whole };
      }
      const start = this.#offset;
      this.#advance(take, complete);
      if (this.#mode === "stream" && take > 0) {
        return { type: this.#type, bytes: this.#chunk.subarray(start, start + take) };
      }
      if (!complete) return undefined;
    }
  }

  #advance(take: number, complete: boolean): void {
    this.#offset += take;
    this.#remaining -= take;
    if (complete) this.#inFrame = false;
  }

  #collect(take: number, complete: boolean): Uint8Array<ArrayBuffer> | undefined {
    const start = this.#offset;
    if (complete && this.#collectedLength === 0) {
      this.#advance(take, true);
      return this.#chunk.subarray(start, start + take);
    }
    const length = this.#collectedLength + take;
    if (length > this.#collected.length) {
      // Doubling, never the declared length at once: a peer pays with bytes for the memory it takes.
      const larger = new Uint8Array(Math.min(Math.max(256, 2 * length), length + this.#remaining - take));
      larger.set(this.#collected.subarray(0, this.#collectedLength));
      this.#collected = larger;
    }
    this.#collected.set(this.#chunk.subarray(start, start + take), this.#collectedLength);
    this.#collectedLength = length;
    this.#advance(take, complete);
    if (!complete) return undefined;
    const whole = this.#collected.subarray(0, length);
    this.#collected = EMPTY;
    this.#collectedLength = 0;
    return whole;
  }

  /** Reads type and length; false when more bytes are needed. */
  #readHeader(): boolean {
    while (this.#headerLength > 0) {
      // A cut header: complete it byte by byte, which happens at most 15 times per frame.
      if (this.#offset === this.#chunk.length) return false;
      const header = this.#header as Uint8Array<ArrayBuffer>;
      header[this.#headerLength++] = this.#chunk[this.#offset++] as number;
      const size = headerSize(header, 0, this.#headerLength);
      if (size !== this.#headerLength) continue;
      this.#headerLength = 0;
      this.#begin(header, 0);
      return true;
    }
    const available = this.#chunk.length - this.#offset;
    if (available === 0) return false;
    const size = headerSize(this.#chunk, this.#offset, this.#chunk.length);
    if (size === 0) {
      this.#header ??= new Uint8Array(MAX_FRAME_HEADER);
      this.#header.set(this.#chunk.subarray(this.#offset));
      this.#headerLength = available;
      this.#offset = this.#chunk.length;
      return false;
    }
    const start = this.#offset;
    this.#offset += size;
    this.#begin(this.#chunk, start);
    return true;
  }

  #begin(source: Uint8Array, offset: number): void {
    const type = readVarint(source, offset);
    const length = readVarint(source, offset + varintLength(source[offset] as number));
    this.#mode = this.#rule(type, length);
    this.#type = type;
    this.#remaining = length;
    this.#inFrame = true;
  }
}

/** Reads a payload that is exactly one varint, as GOAWAY, MAX_PUSH_ID and CANCEL_PUSH have. */
export function readVarintPayload(payload: Uint8Array): number {
  // RFC 9114 §7.1: a payload that ends before or after its fields do is a frame error.
  if (payload.length === 0 || varintLength(payload[0] as number) !== payload.length) {
    throw new ProtocolError("connection", H3_FRAME_ERROR, "Frame payload is not exactly one integer");
  }
  return readVarint(payload, 0);
}

const EMPTY: Uint8Array<ArrayBuffer> = new Uint8Array(0);

/** Size of the frame header at `offset`, or 0 when `end` cuts it. */
function headerSize(bytes: Uint8Array, offset: number, end: number): number {
  const typeSize = varintLength(bytes[offset] as number);
  if (offset + typeSize >= end) return 0;
  const size = typeSize + varintLength(bytes[offset + typeSize] as number);
  return offset + size > end ? 0 : size;
}
