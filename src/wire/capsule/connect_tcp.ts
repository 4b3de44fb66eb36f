/**
 * The capsules of a connect-tcp request: DATA carries bytes of the TCP stream, FINAL_DATA the last of them
 * (perhaps none), so that a stream that was cut short differs from one that was closed. Capsules may be of any
 * length, so both directions work in pieces and copy nothing.
 */
import { ProtocolError } from "../../base/errors.ts";
import { H3_CONNECT_ERROR, H3_MESSAGE_ERROR } from "../h3/codes.ts";
import { MAX_CAPSULE_HEADER, readCapsuleHeader, truncatedCapsule } from "./capsule.ts";

/** Bytes of the TCP stream. */
export const DATA_CAPSULE = 0x2028_d7f0;
/** The last bytes of the TCP stream. */
export const FINAL_DATA_CAPSULE = 0x2028_d7f1;

/** What {@linkcode writeTcpCapsuleHeader} writes: type and length as varints of four bytes each. */
export const TCP_CAPSULE_HEADER_SIZE = 8;

const FOUR_BYTE_VARINT = 0x8000_0000;
const MAX_LENGTH = 0x3fff_ffff;

/** What a capsule carries. */
export interface TcpCapsuleOptions {
  /** Bytes of the value, which the caller sends behind the header. */
  readonly length: number;
  /** Whether they end the TCP stream. */
  readonly final: boolean;
}

/** Writes a capsule's type and length, always in {@linkcode TCP_CAPSULE_HEADER_SIZE} bytes. */
export function writeTcpCapsuleHeader(
  target: Uint8Array,
  offset: number,
  options: TcpCapsuleOptions,
): number {
  const { length, final } = options;
  if (!(Number.isInteger(length) && length >= 0 && length <= MAX_LENGTH)) {
    throw new RangeError(`Cannot write capsule: expected a length from 0 to ${MAX_LENGTH}, got ${length}`);
  }
  const view = new DataView(target.buffer, target.byteOffset, target.byteLength);
  view.setUint32(offset, FOUR_BYTE_VARINT + (final ? FINAL_DATA_CAPSULE : DATA_CAPSULE));
  view.setUint32(offset + 4, FOUR_BYTE_VARINT + length);
  return offset + TCP_CAPSULE_HEADER_SIZE;
}

/** Takes the TCP stream out of its capsules; holds at most one capsule header. */
export class TcpCapsuleReader {
  readonly #header = new Uint8Array(MAX_CAPSULE_HEADER);
  #headerLength = 0;
  #inData = false;
  #remaining = 0;
  #sawFinal = false;

  /** Whether the last byte of the TCP stream was read. */
  get finished(): boolean {
    return this.#sawFinal && !(this.#inData && this.#remaining > 0);
  }

  /** Takes a chunk and returns the pieces of the TCP stream in it, in order, as views of it, none empty. */
  push(bytes: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer>[] {
    const pieces: Uint8Array<ArrayBuffer>[] = [];
    let offset = 0;
    while (offset < bytes.length) {
      if (this.#remaining === 0) {
        this.#header[this.#headerLength++] = bytes[offset++] as number;
        this.#beginCapsule();
        continue;
      }
      const end = Math.min(bytes.length, offset + this.#remaining);
      if (this.#inData) pieces.push(bytes.subarray(offset, end));
      this.#remaining -= end - offset;
      offset = end;
    }
    return pieces;
  }

  /** The stream ended cleanly; throws unless the TCP stream did so too. */
  end(): void {
    // RFC 9297 §3.3: a truncated last capsule makes the message malformed.
    if (this.#remaining > 0 || this.#headerLength > 0) throw truncatedCapsule();
    if (!this.#sawFinal) {
      throw new ProtocolError("stream", H3_CONNECT_ERROR, "Stream ended without FINAL_DATA");
    }
  }

  /** Reads the header once it is complete. */
  #beginCapsule(): void {
    const header = readCapsuleHeader(this.#header.subarray(0, this.#headerLength));
    if (header === undefined) return;
    this.#headerLength = 0;
    this.#remaining = header.length;
    // RFC 9297 §3.2: a capsule of unknown type is dropped in silence.
    this.#inData = header.type === DATA_CAPSULE || header.type === FINAL_DATA_CAPSULE;
    if (!this.#inData) return;
    if (this.#sawFinal) throw new ProtocolError("stream", H3_MESSAGE_ERROR, "Data behind FINAL_DATA");
    this.#sawFinal = header.type === FINAL_DATA_CAPSULE;
  }
}
