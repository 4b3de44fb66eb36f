/**
 * A `Deno` QUIC stream as a pipe. The runtime offers no stream error codes: aborting our direction looks
 * like a clean end to the peer, stopping its direction fails its writes.
 */

import { ChannelResetError } from "../../base/channel.ts";
import { errorMessage } from "../../base/errors.ts";
import type { Pipe } from "../h3/pipe.ts";
import { ReadAhead } from "./read_ahead.ts";

/** The halves of a stream; a one-way stream has only one. */
export interface QuicPipeHalves {
  readonly readable?: Deno.QuicReceiveStream;
  readonly writable?: Deno.QuicSendStream;
}

/** One QUIC stream. */
export class QuicPipe implements Pipe {
  readonly #reader: ReadableStreamBYOBReader | undefined;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array> | undefined;
  readonly #ahead = new ReadAhead((target) => this.read(target));
  #writeClosed: Promise<void> | undefined;

  constructor(halves: QuicPipeHalves) {
    this.#reader = halves.readable?.getReader({ mode: "byob" });
    this.#writer = halves.writable?.getWriter();
  }

  next(): Promise<Uint8Array<ArrayBuffer> | null> {
    return this.#ahead.next();
  }

  /**
   * Reads at least one byte into `target`, whose buffer moves into the result, or `null` at the end: for the
   * first bytes of a stream, before `next()` reads ahead.
   */
  async read(target: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer> | null> {
    if (this.#reader === undefined) return null;
    try {
      const { value, done } = await this.#reader.read(target);
      return done || value === undefined ? null : value;
    } catch (error) {
      throw new ChannelResetError(`Stream broke while reading: ${errorMessage(error)}`, { cause: error });
    }
  }

  async write(bytes: Uint8Array): Promise<void> {
    if (this.#writer === undefined) throw new TypeError("Cannot write: the stream is one-way");
    try {
      await this.#writer.write(bytes);
    } catch (error) {
      throw new ChannelResetError(`Stream broke while writing: ${errorMessage(error)}`, { cause: error });
    }
  }

  closeWrite(): Promise<void> {
    this.#writeClosed ??= this.#closeWriter();
    return this.#writeClosed;
  }

  cancelRead(): void {
    this.#reader?.cancel().catch(ignore);
  }

  abort(): void {
    this.cancelRead();
    this.#writeClosed ??= Promise.resolve();
    this.#writer?.abort().catch(ignore);
  }

  async #closeWriter(): Promise<void> {
    try {
      await this.#writer?.close();
    } catch (error) {
      throw new ChannelResetError(`Stream broke while closing: ${errorMessage(error)}`, { cause: error });
    }
  }
}

function ignore(): void {}
