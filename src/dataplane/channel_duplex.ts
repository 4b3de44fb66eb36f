/**
 * Shows a byte channel to `node:tls` as a Duplex. It reads only when asked and never more than its budget, since
 * a TLS socket over a Duplex keeps reading even while it is paused.
 */

import { Duplex } from "node:stream";
import type { ByteChannel } from "../base/channel.ts";

/** How a {@linkcode ChannelDuplex} is bound. */
export interface ChannelDuplexOptions {
  readonly channel: ByteChannel;
  /** Most bytes it takes from the channel, unless more are granted; one more destroys it. */
  readonly maxReadBytes: number;
}

/** A Duplex that owns a byte channel; destroying it aborts the channel. */
export class ChannelDuplex extends Duplex {
  readonly #channel: ByteChannel;
  #budget: number;

  constructor(options: ChannelDuplexOptions) {
    super();
    this.#channel = options.channel;
    this.#budget = options.maxReadBytes;
  }

  /** Lets it take this many bytes from now on. */
  grant(bytes: number): void {
    this.#budget = bytes;
  }

  override _read(): void {
    this.#channel.read().then(
      (chunk) => this.#deliver(chunk),
      (error) => this.destroy(error),
    );
  }

  override _write(chunk: Uint8Array, _encoding: string, callback: (error?: Error | null) => void): void {
    this.#channel.write(chunk).then(() => callback(), callback);
  }

  override _final(callback: (error?: Error | null) => void): void {
    this.#channel.closeWrite().then(() => callback(), callback);
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.#channel.abort(error ?? undefined);
    callback(error);
  }

  #deliver(chunk: Uint8Array<ArrayBuffer> | null): void {
    if (chunk !== null && chunk.length > this.#budget) {
      this.destroy(new RangeError(`Cannot take more bytes: ${chunk.length} exceed the budget`));
      return;
    }
    this.#budget -= chunk?.length ?? 0;
    // The view dies with the next read, and TLS may hold what it was given: copy.
    this.push(chunk?.slice() ?? null);
  }
}
