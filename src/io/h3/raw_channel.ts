/**
 * A pipe's bytes as they are: the streams of a WebTransport session behind their signal.
 */

import { type ByteChannel, HEADROOM } from "../../base/channel.ts";
import type { Pipe } from "./pipe.ts";

/** What a {@linkcode RawChannel} starts from. */
export interface RawChannelOptions {
  /** Bytes already read from the pipe. */
  readonly rest?: Uint8Array<ArrayBuffer>;
  /** Called once, when both directions have ended. */
  readonly onDone?: () => void;
}

/** A {@linkcode ByteChannel} over a pipe. */
export class RawChannel implements ByteChannel {
  readonly #pipe: Pipe;
  #rest: Uint8Array<ArrayBuffer> | undefined;
  #onDone: (() => void) | undefined;
  #readEnded = false;
  #writeEnded = false;

  constructor(pipe: Pipe, options: RawChannelOptions = {}) {
    this.#pipe = pipe;
    if (options.rest !== undefined && options.rest.length > 0) this.#rest = withHeadroom(options.rest);
    this.#onDone = options.onDone;
  }

  async read(): Promise<Uint8Array<ArrayBuffer> | null> {
    const rest = this.#rest;
    if (rest !== undefined) {
      this.#rest = undefined;
      return rest;
    }
    try {
      const bytes = await this.#pipe.next();
      if (bytes === null) this.#end({ read: true });
      return bytes;
    } catch (error) {
      this.#end({ read: true });
      throw error;
    }
  }

  write(bytes: Uint8Array): Promise<void> {
    return this.#pipe.write(bytes);
  }

  async closeWrite(): Promise<void> {
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

  #end(ended: { readonly read?: boolean; readonly write?: boolean }): void {
    if (ended.read) this.#readEnded = true;
    if (ended.write) this.#writeEnded = true;
    if (!this.#readEnded || !this.#writeEnded) return;
    this.#onDone?.();
    this.#onDone = undefined;
  }
}

function withHeadroom(bytes: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  if (bytes.byteOffset >= HEADROOM) return bytes;
  const copy = new Uint8Array(new ArrayBuffer(HEADROOM + bytes.length), HEADROOM);
  copy.set(bytes);
  return copy;
}
