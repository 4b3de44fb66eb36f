/**
 * Accepts TLS connections over TCP, each of which carries exactly the bytes of one HTTP/3 request stream.
 * ALPN keeps it apart from HTTP/1.1 and HTTP/2 on the same port number.
 */

import { sleep } from "../../base/async.ts";
import { errorMessage } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { ServerConnection } from "../../dataplane/carrier.ts";
import { openSockets, SOL_SOCKET } from "../libc_sockets.ts";
import { selectSocket } from "../packet_filter.ts";
import { Queue } from "../queue.ts";
import { TlsServerConnection } from "./server_connection.ts";
import { dropConnection } from "./tls_pipe.ts";

/** The protocol name of the carrier. */
export const TLS_CARRIER_ALPN = "ginnel/1";

/** Bounds of a TLS listener. */
export interface TlsLimits {
  /** Connections at once; more are closed at accept. */
  readonly maxConnections: number;
  /** Connections at once that are not authenticated; more are closed at accept. */
  readonly maxUnauthenticated: number;
  /** Milliseconds a connection may stay unauthenticated, handshake included. */
  readonly unauthenticatedMs: number;
  /** Bytes of a field section, encoded and decoded. */
  readonly maxFieldSectionSize: number;
}

/** Bounds for one relay: a connection is one flow, and pins at most two read buffers of 128 KiB. */
const DEFAULT_TLS_LIMITS: TlsLimits = {
  maxConnections: 10_000,
  maxUnauthenticated: 256,
  unauthenticatedMs: 5_000,
  maxFieldSectionSize: 16_384,
};

/** A certificate chain and its key, both PEM. */
export interface TlsCredentials {
  readonly cert: string;
  readonly key: string;
}

/** Where and how to listen. */
export interface ListenTlsOptions extends TlsCredentials {
  readonly hostname: string;
  /** 0 takes a free port. */
  readonly port: number;
  readonly limits?: Partial<TlsLimits>;
  readonly logger: Logger;
}

/** A running listener. */
export interface TlsListener {
  readonly port: number;
  /** Connections in order of arrival; ends with `close()`. Iterate it once. */
  connections(): AsyncIterable<ServerConnection>;
  /** New connections get the new certificate; running ones go on. */
  reload(credentials: TlsCredentials): void;
  /** Stops accepting and closes every connection. Idempotent. */
  close(): Promise<void>;
}

/** Listens for TLS carriers. */
// deno-lint-ignore require-await -- rejects instead of throwing, like its sibling over QUIC
export async function listenTls(options: ListenTlsOptions): Promise<TlsListener> {
  return new Listener(options);
}

/** One socket that listens on the port. */
interface RunningListener {
  readonly listener: Deno.TlsListener;
  /** Resolves when it is closed. */
  readonly ended: Promise<void>;
}

class Listener implements TlsListener {
  readonly port: number;
  readonly #hostname: string;
  readonly #limits: TlsLimits;
  readonly #logger: Logger;
  readonly #queue = new Queue<ServerConnection>({ onDrop: (connection) => connection.close(0, "") });
  readonly #connections = new Set<TlsServerConnection>();
  #current: RunningListener;
  /** The listener before the last reload, while it still listens, and what ends that. */
  #retiring:
    | { readonly listener: Deno.TlsListener; timer: ReturnType<typeof setTimeout> | undefined }
    | undefined;
  /** What to listen with once the retiring listener is gone. */
  #next: TlsCredentials | undefined;
  #closed = false;

  constructor(options: ListenTlsOptions) {
    const { hostname, logger } = options;
    this.#hostname = hostname;
    this.#limits = { ...DEFAULT_TLS_LIMITS, ...options.limits };
    this.#logger = logger;
    this.port = claimPort(hostname, options.port);
    this.#current = this.#listen(options);
  }

  connections(): AsyncIterable<ServerConnection> {
    return this.#queue;
  }

  reload(credentials: TlsCredentials): void {
    if (this.#retiring === undefined) return this.#replace(credentials);
    // Which of a port's listeners the kernel chooses is known for two of them only.
    this.#next = credentials;
    this.#retire();
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#retire();
    this.#current.listener.close();
    const ended = [...this.#connections].map((connection) => connection.closed);
    for (const connection of this.#connections) connection.close(0, "Relay stops");
    this.#queue.close();
    await Promise.all(ended);
  }

  #listen(credentials: TlsCredentials): RunningListener {
    const listener = Deno.listenTls({
      hostname: this.#hostname,
      port: this.port,
      cert: credentials.cert,
      key: credentials.key,
      alpnProtocols: [TLS_CARRIER_ALPN],
      reusePort: true,
    });
    this.#tune();
    return { listener, ended: this.#acceptLoop(listener) };
  }

  /** Both listen for a while: the new one takes new connections, the old one those that had reached it. */
  #replace(credentials: TlsCredentials): void {
    const previous = this.#current;
    this.#current = this.#listen(credentials);
    this.#retiring = { listener: previous.listener, timer: setTimeout(() => this.#retire(), OVERLAP_MS) };
    previous.ended.then(() => this.#retired());
  }

  #retire(): void {
    if (this.#retiring?.timer === undefined) return;
    clearTimeout(this.#retiring.timer);
    this.#retiring.timer = undefined;
    this.#retiring.listener.close();
  }

  #retired(): void {
    const credentials = this.#next;
    this.#retiring = undefined;
    this.#next = undefined;
    if (credentials === undefined || this.#closed) return;
    try {
      this.#replace(credentials);
    } catch (error) {
      this.#logger.error("tls_reload_failed", { reason: errorMessage(error) });
    }
  }

  #tune(): void {
    try {
      using sockets = openSockets({ kind: "tcp-listener", port: this.port });
      // Accepted connections inherit these.
      for (const [option, value] of CONNECTION_OPTIONS) sockets.set(option, value);
      // The second is the new one. Alone it has index 0: the kernel then ignores the choice.
      sockets.attach(SO_ATTACH_REUSEPORT_CBPF, selectSocket(1));
    } catch (error) {
      this.#logger.warn("tcp_listener_untuned", { reason: errorMessage(error) });
    }
  }

  async #acceptLoop(listener: Deno.TlsListener): Promise<void> {
    for (;;) {
      let conn: Deno.TlsConn;
      try {
        conn = await listener.accept();
      } catch (error) {
        // Closed by us, or replaced.
        if (this.#closed || error instanceof Deno.errors.BadResource) return;
        if (error instanceof Deno.errors.Interrupted) return;
        this.#logger.warn("tls_accept_failed", { reason: errorMessage(error) });
        // Out of descriptors, most likely: a pause keeps the loop from spinning.
        await sleep(ACCEPT_PAUSE_MS);
        continue;
      }
      if (this.#full()) dropConnection(conn);
      else this.#admit(conn);
    }
  }

  #full(): boolean {
    let unauthenticated = 0;
    for (const connection of this.#connections) if (connection.unauthenticated) unauthenticated++;
    return this.#connections.size >= this.#limits.maxConnections ||
      unauthenticated >= this.#limits.maxUnauthenticated;
  }

  #admit(conn: Deno.TlsConn): void {
    const connection = new TlsServerConnection(conn, {
      id: `tls-${nextId++}`,
      limits: this.#limits,
      logger: this.#logger,
    });
    this.#connections.add(connection);
    connection.closed.then(() => this.#connections.delete(connection));
    connection.handshake().then(
      () => this.#queue.push(connection),
      // Scanners and broken clients: their fault, and frequent.
      (error) => this.#logger.debug("tls_handshake_failed", { reason: errorMessage(error) }),
    );
  }
}

const IPPROTO_TCP = 6;

/**
 * Small writes do not wait (up to 40 ms) for an acknowledgment; a peer that vanished is noticed after a minute,
 * idle or not.
 */
const CONNECTION_OPTIONS = [
  [{ level: IPPROTO_TCP, name: 1 /* TCP_NODELAY */ }, 1],
  [{ level: SOL_SOCKET, name: 9 /* SO_KEEPALIVE */ }, 1],
  [{ level: IPPROTO_TCP, name: 4 /* TCP_KEEPIDLE, seconds */ }, 30],
  [{ level: IPPROTO_TCP, name: 5 /* TCP_KEEPINTVL, seconds */ }, 10],
  [{ level: IPPROTO_TCP, name: 6 /* TCP_KEEPCNT */ }, 3],
  [{ level: IPPROTO_TCP, name: 18 /* TCP_USER_TIMEOUT, milliseconds */ }, 60_000],
] as const;

const SO_ATTACH_REUSEPORT_CBPF = { level: SOL_SOCKET, name: 51 } as const;

/** Milliseconds a replaced listener goes on accepting what had reached it. */
const OVERLAP_MS = 1_000;

/** Milliseconds before accepting is tried again after it failed. */
const ACCEPT_PAUSE_MS = 100;

let nextId = 1;

/**
 * Makes sure that nobody else listens on the port, which sharing it for reloads would hide, and chooses a
 * free one for 0.
 */
function claimPort(hostname: string, port: number): number {
  using probe = Deno.listen({ hostname, port });
  return (probe.addr as Deno.NetAddr).port;
}
