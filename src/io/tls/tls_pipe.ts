/**
 * A TLS connection as a pipe. The peer's end is clean only with close_notify: a cut TCP connection rejects.
 */

import { ChannelResetError } from "../../base/channel.ts";
import { errorMessage } from "../../base/errors.ts";
import type { Pipe } from "../h3/pipe.ts";

/** The stream that a TLS connection is. */
export class TlsPipe implements Pipe {
  readonly #conn: Deno.TlsConn;
  /** The write under way and those behind it. */
  #writing: Promise<void> = Promise.resolve();
  #writeClosed: Promise<void> | undefined;
  #closed = false;

  constructor(conn: Deno.TlsConn) {
    this.#conn = conn;
  }

  async read(target: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer> | null> {
    try {
      const length = await this.#conn.read(target);
      return length === null ? null : target.subarray(0, length);
    } catch (error) {
      throw new ChannelResetError(`Connection broke while reading: ${errorMessage(error)}`, { cause: error });
    }
  }

  write(bytes: Uint8Array): Promise<void> {
    return this.#enqueue(() => this.#writeAll(bytes));
  }

  closeWrite(): Promise<void> {
    this.#writeClosed ??= this.#enqueue(() => this.#conn.closeWrite());
    return this.#writeClosed;
  }

  cancelRead(): void {
    // TLS cannot refuse one direction; closing the connection after our end does.
  }

  abort(farewell: Uint8Array): void {
    if (this.#closed) return;
    // Closing sends close_notify, a clean end; the farewell makes it an unclean one a layer above.
    this.#writeClosed ??= Promise.resolve();
    this.#conn.write(farewell).catch(ignore).finally(() => this.close());
  }

  /** Closes the connection. Idempotent. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#conn.close();
  }

  #enqueue(action: () => Promise<void>): Promise<void> {
    const done = this.#writing.then(action).catch((error) => {
      throw new ChannelResetError(`Connection broke while writing: ${errorMessage(error)}`, { cause: error });
    });
    this.#writing = done.catch(ignore);
    return done;
  }

  async #writeAll(bytes: Uint8Array): Promise<void> {
    let offset = 0;
    while (offset < bytes.length) offset += await this.#conn.write(bytes.subarray(offset));
  }
}

function ignore(): void {}
