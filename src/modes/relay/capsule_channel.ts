/**
 * The TCP stream inside a connect-tcp request's capsules, as a byte channel: FINAL_DATA is its clean end, so a
 * stream that was cut short reads as a reset.
 */

import { type ByteChannel, ChannelResetError, HEADROOM } from "../../base/channel.ts";
import {
  TCP_CAPSULE_HEADER_SIZE,
  TcpCapsuleReader,
  writeTcpCapsuleHeader,
} from "../../wire/capsule/connect_tcp.ts";

/** Wraps the body of a request whose bytes travel in capsules. */
export function capsuleChannel(body: ByteChannel): ByteChannel {
  return new CapsuleChannel(body);
}

class CapsuleChannel implements ByteChannel {
  readonly #body: ByteChannel;
  readonly #reader = new TcpCapsuleReader();
  #pieces: Uint8Array<ArrayBuffer>[] = [];
  #ended = false;

  constructor(body: ByteChannel) {
    this.#body = body;
  }

  async read(): Promise<Uint8Array<ArrayBuffer> | null> {
    for (;;) {
      const piece = this.#pieces.shift();
      if (piece !== undefined) return piece;
      if (this.#reader.finished) return null;
      const bytes = await this.#body.read();
      try {
        if (bytes === null) {
          this.#reader.end();
          return null;
        }
        this.#pieces = this.#reader.push(bytes);
      } catch (error) {
        throw new ChannelResetError("The capsules of this stream were cut short or malformed", {
          cause: error,
        });
      }
    }
  }

  /** Copies once: standard clients are not the bulk path, which is sealed and unframed. */
  write(bytes: Uint8Array): Promise<void> {
    return this.#body.write(this.#frame(bytes, false));
  }

  async closeWrite(): Promise<void> {
    if (this.#ended) return;
    this.#ended = true;
    await this.#body.write(this.#frame(new Uint8Array(), true));
    await this.#body.closeWrite();
  }

  abort(reason?: unknown): void {
    this.#ended = true;
    this.#body.abort(reason);
  }

  #frame(bytes: Uint8Array, final: boolean): Uint8Array {
    // The body below frames once more in the same way, so its own room stays in front.
    const framed = new Uint8Array(HEADROOM + TCP_CAPSULE_HEADER_SIZE + bytes.length).subarray(HEADROOM);
    writeTcpCapsuleHeader(framed, 0, { length: bytes.length, final });
    framed.set(bytes, TCP_CAPSULE_HEADER_SIZE);
    return framed;
  }
}
