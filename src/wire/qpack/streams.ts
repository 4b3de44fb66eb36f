/**
 * The peer's QPACK encoder and decoder streams (RFC 9204 §4.3, §4.4), as an endpoint reads them that neither
 * allows nor uses a dynamic table. Both read a byte at a time and keep one unfinished integer, nothing else.
 */
import { ProtocolError } from "../../base/errors.ts";
import { QPACK_DECODER_STREAM_ERROR, QPACK_ENCODER_STREAM_ERROR } from "../h3/codes.ts";
import { PrefixIntReader } from "./prefix_int.ts";

/** Reads encoder instructions: only setting the table's capacity to the 0 it has is possible. */
export class QpackEncoderStreamReader {
  readonly #capacity = new PrefixIntReader(QPACK_ENCODER_STREAM_ERROR);
  #inInstruction = false;

  /** Takes bytes as they come; throws a connection error on what cannot be. */
  push(bytes: Uint8Array): void {
    for (const byte of bytes) {
      // RFC 9204 §3.2.2: an entry larger than the capacity, hence every insert or duplicate, is an error.
      if (!this.#inInstruction && byte >> 5 !== 0b001) {
        throw new ProtocolError(
          "connection",
          QPACK_ENCODER_STREAM_ERROR,
          "Insert into a table of capacity 0",
        );
      }
      const complete = this.#inInstruction ? this.#capacity.push(byte) : this.#capacity.begin(byte, 5);
      this.#inInstruction = !complete;
      // RFC 9204 §4.3.1: a capacity above the limit we advertised (none) is an error.
      if (complete && this.#capacity.value !== 0) {
        throw new ProtocolError(
          "connection",
          QPACK_ENCODER_STREAM_ERROR,
          `Table capacity ${this.#capacity.value} is above 0`,
        );
      }
    }
  }
}

/** Reads decoder instructions: as we insert nothing, only stream cancellations are possible. */
export class QpackDecoderStreamReader {
  readonly #streamId = new PrefixIntReader(QPACK_DECODER_STREAM_ERROR);
  #inInstruction = false;

  /** Takes bytes as they come; throws a connection error on what cannot be. */
  push(bytes: Uint8Array): void {
    for (const byte of bytes) {
      if (!this.#inInstruction && byte >> 6 !== 0b01) {
        // RFC 9204 §4.4.1: acknowledges a section that requires no acknowledgment.
        // RFC 9204 §4.4.3: raises the insert count beyond what was sent, or by 0.
        const what = byte & 0x80 ? "Acknowledgment of a static section" : "Insert count beyond 0";
        throw new ProtocolError("connection", QPACK_DECODER_STREAM_ERROR, what);
      }
      const complete = this.#inInstruction ? this.#streamId.push(byte) : this.#streamId.begin(byte, 6);
      this.#inInstruction = !complete;
    }
  }
}
