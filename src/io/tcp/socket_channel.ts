/**
 * A TCP or unix socket as a {@linkcode ByteChannel}: one reused read buffer that is small while a flow idles
 * and grows with bulk data, half-close, and an abort that reaches the far side as RST.
 */

import { type ByteChannel, ChannelResetError, HEADROOM } from "../../base/channel.ts";
import { resetConnection } from "./reset_socket.ts";

/** Bytes an idle flow's pending read holds: thousands of idle flows must stay cheap. */
const MIN_READ = 4 * 1024;
/** Bytes of the largest read: past this a system call per byte moved no longer gets cheaper. */
const MAX_READ = 64 * 1024;
/** A read that fills the buffer makes the next one this much larger. */
const GROWTH = 4;
/** After this many reads in a row that a smaller buffer would have held, the buffer shrinks again. */
const SMALL_READS_TO_SHRINK = 32;

/** A connected socket with half-close, back-pressure and reset. */
export interface SocketChannel extends ByteChannel {
  /** Resolves once the socket is closed, by both ends finishing or by a reset. */
  readonly closed: Promise<void>;
  /** Ends both directions at once without a reset, for a peer that is to notice nothing. Idempotent. */
  close(): void;
}

/** Wraps a connected socket, which from now on belongs to the channel. */
export function socketChannel(conn: Deno.TcpConn | Deno.UnixConn): SocketChannel {
  if ("setNoDelay" in conn) {
    conn.setNoDelay(true);
    conn.setKeepAlive(true);
  }
  return new ConnChannel(conn);
}

class ConnChannel implements SocketChannel {
  readonly #conn: Deno.TcpConn | Deno.UnixConn;
  readonly #closed = Promise.withResolvers<void>();
  #buffer: Uint8Array<ArrayBuffer> | undefined;
  #size = MIN_READ;
  #smallReads = 0;
  #open = true;
  #readEnded = false;
  #writeEnded = false;
  #writing = false;
  /** Why reads and writes fail from now on. */
  #failure: ChannelResetError | undefined;

  constructor(conn: Deno.TcpConn | Deno.UnixConn) {
    this.#conn = conn;
  }

  get closed(): Promise<void> {
    return this.#closed.promise;
  }

  async read(): Promise<Uint8Array<ArrayBuffer> | null> {
    if (!this.#open && this.#failure !== undefined) throw this.#failure;
    if (this.#readEnded) return null;
    const buffer = this.#readBuffer();
    let count: number | null;
    try {
      count = await this.#conn.read(buffer.subarray(HEADROOM));
    } catch (error) {
      throw this.#fail("read", error);
    }
    if (count === null) return await this.#endOfRead();
    this.#adapt(count);
    return buffer.subarray(HEADROOM, HEADROOM + count);
  }

  async write(bytes: Uint8Array): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure;
    if (this.#writeEnded) throw new TypeError("Cannot write to a channel after closeWrite()");
    this.#writing = true;
    try {
      let offset = 0;
      while (offset < bytes.length) {
        offset += await this.#conn.write(offset === 0 ? bytes : bytes.subarray(offset));
      }
    } catch (error) {
      // What the peer sent before its reset can still be read: the socket stays open for the reader.
      this.#failure ??= resetError("write", error);
      throw this.#failure;
    } finally {
      this.#writing = false;
    }
  }

  async closeWrite(): Promise<void> {
    if (this.#writeEnded || this.#failure !== undefined) return;
    this.#writeEnded = true;
    try {
      await this.#conn.closeWrite();
    } catch (error) {
      throw this.#fail("closeWrite", error);
    }
    this.#closeIfDone();
  }

  abort(reason?: unknown): void {
    if (!this.#open) return;
    this.#failure ??= new ChannelResetError("Channel aborted", { cause: reason });
    if ("setNoDelay" in this.#conn) resetConnection(this.#conn);
    this.#close();
  }

  close(): void {
    if (!this.#open) return;
    this.#failure ??= new ChannelResetError("Channel closed");
    this.#close();
  }

  async #endOfRead(): Promise<null> {
    // A reset is reported once, to whichever of read and write comes first; the other then sees a plain
    // end. When a write is under way, let it say so before this end is believed.
    if (this.#writing) await new Promise((resolve) => setTimeout(resolve, 0));
    if (this.#failure !== undefined) {
      this.#close();
      throw this.#failure;
    }
    this.#readEnded = true;
    this.#buffer = undefined;
    this.#closeIfDone();
    return null;
  }

  #readBuffer(): Uint8Array<ArrayBuffer> {
    if (this.#buffer?.length !== HEADROOM + this.#size) this.#buffer = new Uint8Array(HEADROOM + this.#size);
    return this.#buffer;
  }

  #adapt(count: number): void {
    if (count === this.#size) {
      this.#size = Math.min(MAX_READ, this.#size * GROWTH);
      this.#smallReads = 0;
    } else if (this.#size > MIN_READ && count <= this.#size / GROWTH) {
      if (++this.#smallReads < SMALL_READS_TO_SHRINK) return;
      this.#size /= GROWTH;
      this.#smallReads = 0;
    } else {
      this.#smallReads = 0;
    }
  }

  #fail(action: string, error: unknown): ChannelResetError {
    this.#failure ??= resetError(action, error);
    this.#close();
    return this.#failure;
  }

  #closeIfDone(): void {
    if (this.#readEnded && this.#writeEnded) this.#close();
  }

  #close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#buffer = undefined;
    this.#conn.close();
    this.#closed.resolve();
  }
}

function resetError(action: string, cause: unknown): ChannelResetError {
  const name = cause instanceof Error ? cause.name : String(cause);
  return new ChannelResetError(`Connection broke during ${action} (${name})`, { cause });
}
