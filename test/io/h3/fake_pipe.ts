/**
 * A pipe that delivers what a test gives it, one byte at a time unless told otherwise, and records what is
 * written. Its views turn to garbage at the next read, as a transport's do.
 */

import { concat } from "../../../src/base/bytes.ts";
import { ChannelResetError } from "../../../src/base/channel.ts";
import { allocateWithHeadroom } from "../../../src/base/headroom.ts";
import type { Pipe } from "../../../src/io/h3/pipe.ts";
import { pieces } from "../../wire/h3/support.ts";

/** How a {@linkcode FakePipe} delivers. */
export interface FakePipeOptions {
  /** Bytes per read; default 1. */
  readonly size?: number;
  /** How it ends after the bytes; default clean. */
  readonly end?: "clean" | "reset";
}

/** One scripted stream. */
export class FakePipe implements Pipe {
  readonly writes: Uint8Array[] = [];
  writeClosed = false;
  readCancelled = false;
  aborted = false;
  readonly #chunks: Uint8Array[];
  readonly #end: "clean" | "reset";
  #lent: Uint8Array | undefined;

  constructor(bytes: Uint8Array, { size = 1, end = "clean" }: FakePipeOptions = {}) {
    this.#chunks = pieces(bytes, size);
    this.#end = end;
  }

  /** All that was written, joined. */
  get written(): Uint8Array {
    return concat(this.writes);
  }

  next(): Promise<Uint8Array<ArrayBuffer> | null> {
    this.#lent?.fill(0xee);
    const chunk = this.#chunks.shift();
    if (chunk === undefined) {
      if (this.#end === "reset") return Promise.reject(new ChannelResetError("Reset by the test"));
      return Promise.resolve(null);
    }
    const view = allocateWithHeadroom(chunk.length);
    view.set(chunk);
    this.#lent = view;
    return Promise.resolve(view);
  }

  write(bytes: Uint8Array): Promise<void> {
    this.writes.push(bytes.slice());
    return Promise.resolve();
  }

  closeWrite(): Promise<void> {
    this.writeClosed = true;
    return Promise.resolve();
  }

  cancelRead(): void {
    this.readCancelled = true;
  }

  abort(): void {
    this.aborted = true;
  }
}
