/**
 * A TLS connection as a pipe. The peer's end is clean only with close_notify: a cut TCP connection rejects.
 */

import { ChannelResetError } from "../../base/channel.ts";
import { errorMessage } from "../../base/errors.ts";
import { FRAME_DATA } from "../../wire/h3/codes.ts";
import type { Pipe } from "../h3/pipe.ts";
import { resetConnection } from "../tcp/reset_socket.ts";
import { FillAhead } from "./fill_ahead.ts";

/**
 * The header of a DATA frame whose content never comes. Where the connection cannot be reset, closing it sends
 * close_notify, a clean end; behind this the HTTP/3 stream ends inside a frame, and its reader knows that it
 * was cut.
 */
const CUT_FRAME = Uint8Array.of(FRAME_DATA, 1);

/** Milliseconds a connection that cannot be reset may take to get its last bytes out. */
const ABORT_GRACE_MS = 1_000;

/**
 * Gives a connection up that has not begun to carry anything. The runtime's own close waits for a handshake
 * under way, forever if the peer likes.
 */
export function dropConnection(conn: Deno.TlsConn): void {
  resetConnection(conn);
  conn.close();
}

/** The stream that a TLS connection is: it carries HTTP/3 frames and nothing else. */
export class TlsPipe implements Pipe {
  readonly #conn: Deno.TlsConn;
  readonly #onClosed: () => void;
  /** The write under way and those behind it. */
  #writing: Promise<void> = Promise.resolve();
  #writeClosed: Promise<void> | undefined;
  #aborted = false;
  #closed = false;

  readonly #ahead = new FillAhead((target) => this.#read(target));

  /** `onClosed` is called just before the connection is closed. */
  constructor(conn: Deno.TlsConn, { onClosed = ignore }: { readonly onClosed?: () => void } = {}) {
    this.#conn = conn;
    this.#onClosed = onClosed;
  }

  next(): Promise<Uint8Array<ArrayBuffer> | null> {
    return this.#ahead.next();
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

  abort(): void {
    if (this.#aborted) return;
    this.#aborted = true;
    this.#writeClosed ??= Promise.resolve();
    if (resetConnection(this.#conn)) return this.#shut();
    // Behind the write under way, lest it end up in the middle of its frame; a stuck one is cut as it is.
    const timer = setTimeout(() => this.#shut(), ABORT_GRACE_MS);
    this.#enqueue(() => this.#writeAll(CUT_FRAME)).catch(ignore).finally(() => {
      clearTimeout(timer);
      this.#shut();
    });
  }

  /** Closes the connection, cleanly if all was written; an abort under way goes first. Idempotent. */
  close(): void {
    if (!this.#aborted) this.#shut();
  }

  #shut(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#onClosed();
    this.#conn.close();
  }

  #enqueue(action: () => Promise<void>): Promise<void> {
    const done = this.#writing.then(action).catch((error) => {
      throw new ChannelResetError(`Connection broke while writing: ${errorMessage(error)}`, { cause: error });
    });
    this.#writing = done.catch(ignore);
    return done;
  }

  async #read(target: Uint8Array): Promise<number | null> {
    try {
      return await this.#conn.read(target);
    } catch (error) {
      throw new ChannelResetError(`Connection broke while reading: ${errorMessage(error)}`, { cause: error });
    }
  }

  async #writeAll(bytes: Uint8Array): Promise<void> {
    let offset = 0;
    while (offset < bytes.length) offset += await this.#conn.write(bytes.subarray(offset));
  }
}

function ignore(): void {}
