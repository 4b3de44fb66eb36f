/**
 * How a stream says what it is: the type of a unidirectional stream (RFC 9114 §6.2), and the signals that
 * give a stream to a WebTransport session:
 *
 *   unidirectional: 0x54 (varint) | Session ID (varint) | application bytes
 *   bidirectional:  0x41 (varint) | Session ID (varint) | application bytes
 */

import { ProtocolError } from "../../base/errors.ts";
import { readVarint, varintLength, varintSize, writeVarint } from "../varint.ts";
import { FRAME_WT_STREAM, H3_ID_ERROR, STREAM_WT_UNI } from "./codes.ts";

/** What the first bytes of a stream said. `rest` is a view of the bytes behind the signal. */
export type StreamSignal =
  | { readonly kind: "webtransport"; readonly sessionId: number; readonly rest: Uint8Array<ArrayBuffer> }
  | { readonly kind: "other"; readonly type: number; readonly rest: Uint8Array<ArrayBuffer> };

/** Returns the first bytes of a WebTransport stream. */
export function encodeWebTransportSignal(
  direction: "bidirectional" | "unidirectional",
  sessionId: number,
): Uint8Array<ArrayBuffer> {
  const type = direction === "bidirectional" ? FRAME_WT_STREAM : STREAM_WT_UNI;
  const bytes = new Uint8Array(varintSize(type) + varintSize(sessionId));
  writeVarint(bytes, writeVarint(bytes, 0, type), sessionId);
  return bytes;
}

/**
 * Reads the signal of one stream. Of a bidirectional stream that is no WebTransport stream nothing is
 * consumed: its first integer is a frame's type, and `rest` begins with it.
 */
export class StreamSignalReader {
  readonly #direction: "bidirectional" | "unidirectional";
  #buffer: Uint8Array<ArrayBuffer> = new Uint8Array(0);

  constructor(direction: "bidirectional" | "unidirectional") {
    this.#direction = direction;
  }

  /** Takes the next bytes; returns the signal once it is complete (at most 16 bytes are kept before that). */
  push(chunk: Uint8Array<ArrayBuffer>): StreamSignal | undefined {
    const bytes = this.#append(chunk);
    if (bytes.length === 0) return undefined;
    const typeSize = varintLength(bytes[0] as number);
    if (bytes.length < typeSize) return this.#keep(bytes);
    const type = readVarint(bytes, 0);
    if (this.#direction === "bidirectional" ? type !== FRAME_WT_STREAM : type !== STREAM_WT_UNI) {
      const consumed = this.#direction === "bidirectional" ? 0 : typeSize;
      return { kind: "other", type, rest: bytes.subarray(consumed) };
    }
    if (bytes.length === typeSize) return this.#keep(bytes);
    const size = typeSize + varintLength(bytes[typeSize] as number);
    if (bytes.length < size) return this.#keep(bytes);
    const sessionId = readVarint(bytes, typeSize);
    // A session is named by the client-initiated bidirectional stream of its CONNECT request.
    if (sessionId % 4 !== 0) {
      throw new ProtocolError("connection", H3_ID_ERROR, `Stream ${sessionId} cannot be a session`);
    }
    return { kind: "webtransport", sessionId, rest: bytes.subarray(size) };
  }

  #append(chunk: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
    if (this.#buffer.length === 0) return chunk;
    const joined = new Uint8Array(this.#buffer.length + chunk.length);
    joined.set(this.#buffer);
    joined.set(chunk, this.#buffer.length);
    return joined;
  }

  #keep(bytes: Uint8Array<ArrayBuffer>): undefined {
    this.#buffer = bytes.slice();
  }
}
