/**
 * HTTP Datagrams in QUIC DATAGRAM frames (RFC 9297 §2.1): the request stream they belong to, divided by four
 * because only client-initiated bidirectional streams carry requests, then the payload.
 *
 *   +----------------------------+---------+
 *   | Quarter Stream ID (varint) | Payload |
 *   +----------------------------+---------+
 */
import { ProtocolError } from "../base/errors.ts";
import { H3_DATAGRAM_ERROR } from "./h3/codes.ts";
import { readVarint, varintLength } from "./varint.ts";

/** The capsule that carries a payload on the request's stream instead (RFC 9297 §3.5). */
export const DATAGRAM_CAPSULE = 0x00;

/** A datagram of one request. */
export interface HttpDatagram {
  /** The request stream; the nearest double above 2^53-1, where no stream of ours can be. */
  readonly streamId: number;
  /** A view of the frame that was read. */
  readonly payload: Uint8Array<ArrayBuffer>;
}

/** Reads the content of a DATAGRAM frame. */
export function decodeHttpDatagram(bytes: Uint8Array<ArrayBuffer>): HttpDatagram {
  const first = bytes[0];
  const size = first === undefined ? 1 : varintLength(first);
  // RFC 9297 §2.1: a frame too short for its Quarter Stream ID is a connection error.
  if (bytes.length < size) throw refused("is too short for its stream");
  // RFC 9297 §2.1: so is a Quarter Stream ID above 2^60-1. Those have one of the bits below the length bits of
  // eight bytes; as doubles, 2^60-1 and 2^60 would be the same.
  if (size === 8 && ((first as number) & 0x30) !== 0) throw refused("names no stream");
  return { streamId: readVarint(bytes, 0) * 4, payload: bytes.subarray(size) };
}

function refused(what: string): ProtocolError {
  return new ProtocolError("connection", H3_DATAGRAM_ERROR, `Datagram ${what}`);
}
