/**
 * Reads what a local client says before its flow begins, bounded in time; the decoders bound it in bytes.
 */

import { concat } from "../../base/bytes.ts";
import type { ByteChannel } from "../../base/channel.ts";
import { GinnelError } from "../../base/errors.ts";

/** Milliseconds a client has to say what it wants. */
const DEFAULT_HANDSHAKE_TIMEOUT = 10_000;

/** A decoder returns the message and its length, or undefined while bytes are missing. */
export type Decoder<T> = (bytes: Uint8Array) => T | undefined;

/** The bytes a client sends first, taken message by message. */
export class ClientPrelude {
  readonly #channel: ByteChannel;
  readonly #timer: ReturnType<typeof setTimeout>;
  #buffered: Uint8Array = new Uint8Array();

  /** The clock runs from here until {@linkcode finish}; when it runs out, the channel is aborted. */
  constructor(channel: ByteChannel, timeout: number = DEFAULT_HANDSHAKE_TIMEOUT) {
    this.#channel = channel;
    this.#timer = setTimeout(
      () =>
        channel.abort(new GinnelError("ERR_CLIENT_TIMEOUT", "The client took too long to say what it wants")),
      timeout,
    );
  }

  /** Reads the next message; rejects with the decoder's error, or when the client ends or breaks off. */
  async next<T extends { readonly length: number }>(decode: Decoder<T>): Promise<T> {
    for (;;) {
      const message = decode(this.#buffered);
      if (message !== undefined) {
        this.#buffered = this.#buffered.subarray(message.length);
        return message;
      }
      const bytes = await this.#channel.read();
      if (bytes === null) {
        throw new GinnelError("ERR_CLIENT_ENDED", "The client ended before saying what it wants");
      }
      this.#buffered = concat([this.#buffered, bytes]);
    }
  }

  /** Stops the clock and returns the bytes that came after the last message. Idempotent. */
  finish(): Uint8Array {
    clearTimeout(this.#timer);
    return this.#buffered;
  }
}
