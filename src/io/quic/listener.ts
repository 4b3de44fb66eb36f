/**
 * Accepts HTTP/3 connections over QUIC on one UDP port. Certificates are replaced without dropping anybody.
 */

import { errorMessage } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { ServerConnection } from "../../dataplane/carrier.ts";
import { H3_NO_ERROR } from "../../wire/h3/codes.ts";
import { Queue } from "../queue.ts";
import { DEFAULT_QUIC_LIMITS, type QuicLimits } from "./limits.ts";
import { QuicServerConnection } from "./server_connection.ts";
import { raiseSocketBuffers } from "./socket_buffers.ts";

/** A certificate chain and its key, both PEM. */
export interface TlsCredentials {
  readonly cert: string;
  readonly key: string;
}

/** Where and how to listen. */
export interface ListenQuicOptions extends TlsCredentials {
  readonly hostname: string;
  /** 0 takes a free port. */
  readonly port: number;
  readonly limits?: Partial<QuicLimits>;
  readonly logger: Logger;
}

/** A running listener. */
export interface QuicListener {
  readonly port: number;
  /** Connections in order of arrival; ends with `close()`. Iterate it once. */
  connections(): AsyncIterable<ServerConnection>;
  /** New connections get the new certificate; running ones go on. */
  reload(credentials: TlsCredentials): void;
  /** Stops accepting and closes every connection. Idempotent. */
  close(): Promise<void>;
}

/** Listens for HTTP/3 over QUIC. */
// deno-lint-ignore require-await -- rejects instead of throwing, and binding may become asynchronous
export async function listenQuic(options: ListenQuicOptions): Promise<QuicListener> {
  return new Listener(options);
}

class Listener implements QuicListener {
  readonly port: number;
  readonly #endpoint: Deno.QuicEndpoint;
  readonly #limits: QuicLimits;
  readonly #logger: Logger;
  readonly #queue = new Queue<ServerConnection>({
    onDrop: (connection) => connection.close(H3_NO_ERROR, ""),
  });
  readonly #connections = new Set<QuicServerConnection>();
  /** Every listener there ever was: the runtime stops listening when one of them is collected or stopped. */
  readonly #listeners: Deno.QuicListener[] = [];
  #handshakes = 0;
  #closed = false;

  constructor(options: ListenQuicOptions) {
    const { hostname, port, logger } = options;
    this.#limits = { ...DEFAULT_QUIC_LIMITS, ...options.limits };
    this.#logger = logger;
    this.#endpoint = new Deno.QuicEndpoint({ hostname, port });
    this.port = this.#endpoint.addr.port;
    raiseSocketBuffers(this.port, logger);
    this.reload(options);
  }

  connections(): AsyncIterable<ServerConnection> {
    return this.#queue;
  }

  reload(credentials: TlsCredentials): void {
    const listener = this.#endpoint.listen({
      cert: credentials.cert,
      key: credentials.key,
      alpnProtocols: ["h3"],
      congestionControl: "low-latency",
      maxIdleTimeout: this.#limits.idleTimeoutMs,
      maxConcurrentBidirectionalStreams: this.#limits.maxStreams,
      maxConcurrentUnidirectionalStreams: MAX_UNI_STREAMS,
    });
    this.#listeners.push(listener);
    // All listeners of an endpoint share its queue, so that one loop per listener loses nothing.
    void this.#acceptLoop(listener);
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    const ended = [...this.#connections].map((connection) => connection.closed);
    for (const connection of this.#connections) connection.close(H3_NO_ERROR, "Relay stops");
    this.#queue.close();
    await Promise.all(ended);
    this.#listeners.at(-1)?.stop();
    this.#endpoint.close({ closeCode: H3_NO_ERROR, reason: "" });
  }

  async #acceptLoop(listener: Deno.QuicListener): Promise<void> {
    for (;;) {
      let incoming: Deno.QuicIncoming;
      try {
        incoming = await listener.incoming();
      } catch (error) {
        if (!this.#closed) this.#logger.error("quic_listener_failed", { reason: errorMessage(error) });
        return;
      }
      if (this.#closed || this.#full()) incoming.refuse();
      else void this.#handshake(incoming);
    }
  }

  #full(): boolean {
    let unauthenticated = this.#handshakes;
    if (this.#connections.size + this.#handshakes >= this.#limits.maxConnections) return true;
    for (const connection of this.#connections) if (connection.unauthenticated) unauthenticated++;
    return unauthenticated >= this.#limits.maxUnauthenticated;
  }

  async #handshake(incoming: Deno.QuicIncoming): Promise<void> {
    this.#handshakes++;
    let timer: ReturnType<typeof setTimeout> | undefined;
    try {
      // The connection before its handshake, since only that can be given up: an idle time-out chosen by the
      // peer would let one spoofed datagram hold a place for minutes.
      const quic = incoming.accept({ zeroRtt: true });
      let isLate = false;
      timer = setTimeout(() => {
        isLate = true;
        quic.close({ closeCode: H3_NO_ERROR, reason: "" });
      }, this.#limits.unauthenticatedMs);
      // Resolves also when the connection has ended; that is seen in `closed`.
      await quic.handshake;
      if (isLate) throw new Error("Handshake took too long");
      const id = `quic-${nextId++}`;
      const connection = new QuicServerConnection(quic, { id, limits: this.#limits, logger: this.#logger });
      if (this.#closed) return connection.close(H3_NO_ERROR, "Relay stops");
      this.#connections.add(connection);
      connection.closed.then(() => this.#connections.delete(connection));
      this.#queue.push(connection);
    } catch (error) {
      // Scanners and broken clients: their fault, and frequent.
      this.#logger.debug("quic_handshake_failed", { reason: errorMessage(error) });
    } finally {
      clearTimeout(timer);
      this.#handshakes--;
    }
  }
}

/** Control, QPACK and grease streams, and a few of a browser's session; each may park 1.25 MB. */
const MAX_UNI_STREAMS = 16;

let nextId = 1;
