/**
 * Listens on a TCP address and yields accepted sockets as channels. Running out of descriptors or memory
 * pauses the loop; it never ends it.
 */

import { formatHostPort, type HostPort } from "../../base/address.ts";
import { sleep } from "../../base/async.ts";
import { listenError } from "../../base/listen_error.ts";
import { type SocketChannel, socketChannel } from "./socket_channel.ts";

/** Milliseconds to wait after a failed accept, which mostly means that descriptors ran out. */
const ACCEPT_RETRY_DELAY = 100;

/** One accepted connection. */
export interface AcceptedSocket {
  readonly channel: SocketChannel;
  readonly remote: HostPort;
  /** The address that was dialled. */
  readonly local: HostPort;
}

/** An open listening socket. */
export interface SocketListener extends AsyncDisposable {
  /** The bound address; its port is the real one when 0 was asked for. */
  readonly address: HostPort;
  /** Yields connections until {@linkcode SocketListener.close}. */
  connections(): AsyncIterable<AcceptedSocket>;
  /** Stops listening; accepted channels live on. Idempotent. */
  close(): void;
}

/** How to listen. */
export interface ListenOptions {
  /** Told of each failed accept. */
  readonly onError?: (error: unknown) => void;
}

/** Binds `address`; rejects with `ERR_LISTEN_*` when it is taken, foreign or forbidden. */
export function listenTcp(address: HostPort, options: ListenOptions = {}): SocketListener {
  return new TcpSocketListener(bind(address), options.onError ?? (() => {}));
}

class TcpSocketListener implements SocketListener {
  readonly address: HostPort;
  readonly #listener: Deno.TcpListener;
  readonly #onError: (error: unknown) => void;
  readonly #closing = new AbortController();

  constructor(listener: Deno.TcpListener, onError: (error: unknown) => void) {
    this.#listener = listener;
    this.#onError = onError;
    this.address = { hostname: listener.addr.hostname, port: listener.addr.port };
  }

  async *connections(): AsyncIterable<AcceptedSocket> {
    while (!this.#closing.signal.aborted) {
      const accepted = await this.#accept();
      if (accepted !== undefined) yield accepted;
    }
  }

  close(): void {
    if (this.#closing.signal.aborted) return;
    this.#closing.abort();
    this.#listener.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.close();
    return Promise.resolve();
  }

  async #accept(): Promise<AcceptedSocket | undefined> {
    try {
      const conn = await this.#listener.accept();
      return { channel: socketChannel(conn), remote: conn.remoteAddr, local: conn.localAddr };
    } catch (error) {
      if (this.#closing.signal.aborted) return undefined;
      this.#onError(error);
      await sleep(ACCEPT_RETRY_DELAY, { signal: this.#closing.signal }).catch(() => undefined);
      return undefined;
    }
  }
}

function bind(address: HostPort): Deno.TcpListener {
  try {
    return Deno.listen({ hostname: address.hostname, port: address.port });
  } catch (cause) {
    throw listenError(formatHostPort(address), cause);
  }
}
