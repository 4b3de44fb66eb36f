/**
 * Makes the content of a DATAGRAM frame as a peer does; the product writes it in front of payloads in place.
 */

import { concat } from "../../src/base/bytes.ts";
import { encodeVarint } from "../../src/wire/varint.ts";

/** Puts a request's stream, divided by four, in front of a payload. */
export function encodeHttpDatagram(streamId: number, payload: Uint8Array): Uint8Array<ArrayBuffer> {
  return concat([encodeVarint(streamId / 4), payload]);
}
