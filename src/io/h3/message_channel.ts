/**
 * One HTTP/3 request stream over a pipe: the head of the message that comes in, the head that goes out, and
 * then the content of both as a byte channel of DATA frames.
 */

import { type ByteChannel, ChannelResetError } from "../../base/channel.ts";
import { concat } from "../../base/bytes.ts";
import { widenIntoHeadroom } from "../../base/headroom.ts";
import { errorMessage, ProtocolError } from "../../base/errors.ts";
import { FRAME_DATA, FRAME_HEADERS } from "../../wire/h3/codes.ts";
import { encodeFrame, frameHeaderSize, writeFrameHeader } from "../../wire/h3/frame.ts";
import {
  MessageDecoder,
  type MessageDecoderOptions,
  type MessageEvent,
} from "../../wire/h3/message_decoder.ts";
import { encodeFieldSection } from "../../wire/qpack/encoder.ts";
import type { Field } from "../../wire/qpack/static_table.ts";
import type { Pipe } from "./pipe.ts";

/** What a {@linkcode MessageChannel} starts from. */
export interface MessageChannelOptions extends MessageDecoderOptions {
  /** Bytes already read from the pipe. */
  readonly rest?: Uint8Array<ArrayBuffer>;
  /** Receives what ends the whole connection; called before the failing call rejects. */
  readonly onConnectionError: (error: ProtocolError) => void;
  /** Called once, when both directions have ended. */
  readonly onDone?: () => void;
}

/** A request stream; once its head is read, the {@linkcode ByteChannel} of its content. */
export class MessageChannel implements ByteChannel {
  readonly #pipe: Pipe;
  readonly #decoder: MessageDecoder;
  readonly #options: MessageChannelOptions;
  #readEnded = false;
  #writeEnded = false;
  #writeEnding = false;
  #done = false;

  constructor(pipe: Pipe, options: MessageChannelOptions) {
    this.#pipe = pipe;
    this.#decoder = new MessageDecoder(options);
    this.#options = options;
    if (options.rest !== undefined) this.#decoder.push(options.rest);
  }

  /** Whether the peer may still send: its end was not read yet. */
  get canRead(): boolean {
    return !this.#readEnded;
  }

  /** Whether we may still send: our end was not asked for yet. */
  get canWrite(): boolean {
    return !this.#writeEnding && !this.#writeEnded;
  }

  /** Reads up to and including the head. Rejects with what the decoder or the pipe failed with. */
  async readHead(): Promise<Exclude<MessageEvent, { kind: "data" }>> {
    const event = await this.#nextEvent();
    if (event === null || event.kind === "data") throw new TypeError("Cannot read the head twice");
    return event;
  }

  /** Sends our head, with the first bytes of content and the end if they are known. */
  async sendHead(
    fields: readonly Field[],
    options: { readonly body?: Uint8Array; readonly end?: boolean } = {},
  ): Promise<void> {
    const parts = [encodeFrame(FRAME_HEADERS, encodeFieldSection(fields))];
    if (options.body !== undefined && options.body.length > 0) {
      parts.push(encodeFrame(FRAME_DATA, options.body));
    }
    // Not awaited on its own: head and end leave together.
    const written = this.#pipe.write(concat(parts));
    if (!options.end) return await written;
    await Promise.all([written, this.closeWrite()]);
  }

  /** The peer needs to send no more: what is still on its way is not read. */
  cancelRead(): void {
    if (this.#readEnded) return;
    this.#pipe.cancelRead();
    this.#end({ read: true });
  }

  async read(): Promise<Uint8Array<ArrayBuffer> | null> {
    if (this.#readEnded) return null;
    const event = await this.#nextEvent().catch((error) => {
      this.abort();
      if (error instanceof ChannelResetError) throw error;
      throw new ChannelResetError(`Message is broken: ${errorMessage(error)}`, { cause: error });
    });
    if (event === null) return null;
    if (event.kind !== "data") throw new TypeError("Cannot read content before the head");
    return event.bytes;
  }

  async write(bytes: Uint8Array): Promise<void> {
    if (bytes.length === 0) return;
    const length = bytes.length;
    const size = frameHeaderSize(FRAME_DATA, length);
    let frame = widenIntoHeadroom(bytes, size);
    if (frame === undefined) {
      // Copying costs less than a second write, which also is a second packet or TLS record.
      frame = new Uint8Array(size + length);
      frame.set(bytes, size);
    }
    writeFrameHeader(frame, 0, { type: FRAME_DATA, length });
    await this.#pipe.write(frame);
  }

  async closeWrite(): Promise<void> {
    if (this.#writeEnded) return;
    this.#writeEnding = true;
    try {
      await this.#pipe.closeWrite();
    } finally {
      this.#end({ write: true });
    }
  }

  abort(_reason?: unknown): void {
    this.#pipe.abort();
    this.#end({ read: true, write: true });
  }

  async #nextEvent(): Promise<MessageEvent | null> {
    try {
      for (;;) {
        const event = this.#decoder.next();
        if (event !== undefined) return event;
        const chunk = await this.#pipe.next();
        if (chunk === null) {
          this.#decoder.end();
          this.#end({ read: true });
          return null;
        }
        this.#decoder.push(chunk);
      }
    } catch (error) {
      if (error instanceof ProtocolError && error.scope === "connection") {
        this.#options.onConnectionError(error);
      }
      throw error;
    }
  }

  #end(ended: { readonly read?: boolean; readonly write?: boolean }): void {
    if (ended.read) this.#readEnded = true;
    if (ended.write) this.#writeEnded = true;
    if (!this.#readEnded || !this.#writeEnded || this.#done) return;
    this.#done = true;
    this.#options.onDone?.();
  }
}
