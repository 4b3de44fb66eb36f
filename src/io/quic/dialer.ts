/**
 * Dials relays over QUIC. One endpoint, hence one UDP socket, serves all connections of a node: the runtime
 * frees a socket only when it is collected.
 */

import type { HostPort } from "../../base/address.ts";
import { withSignal } from "../../base/async.ts";
import type { Logger } from "../../base/log.ts";
import type { ClientConnection } from "../../dataplane/carrier.ts";
import { H3_NO_ERROR } from "../../wire/h3/codes.ts";
import { raceAddresses } from "../race_addresses.ts";
import { QuicClientConnection } from "./client_connection.ts";
import { raiseSocketBuffers } from "./socket_buffers.ts";
import { SourceFilter } from "./source_filter.ts";

/** How a {@linkcode QuicDialer} behaves. */
export interface QuicDialerOptions {
  readonly logger: Logger;
  /** Milliseconds between keep-alives; default 10,000. */
  readonly keepAliveMs?: number;
  /** Milliseconds without a packet after which a connection counts as dead; default 30,000. */
  readonly idleTimeoutMs?: number;
  /** Streams that the relay may have open towards us; default 1,024. Each may park 1.25 MB. */
  readonly maxIncomingStreams?: number;
  /** Finds the addresses of a name; default: the system's resolver. */
  readonly resolve?: (name: string) => Promise<readonly string[]>;
}

/** Whom to dial and whom to trust. */
export interface DialOptions {
  readonly address: HostPort;
  /** The name that the certificate must carry. */
  readonly serverName: string;
  /** Roots, PEM. The runtime adds them to its own, so that only the name says whose certificate it is. */
  readonly roots: readonly string[];
  readonly signal: AbortSignal;
}

/** Opens connections from one UDP socket, which is deaf and dumb to everybody it has not dialled. */
export class QuicDialer implements AsyncDisposable {
  readonly #options: QuicDialerOptions;
  readonly #connections = new Set<ClientConnection>();
  readonly #sources = new SourceFilter();
  #endpoint: Deno.QuicEndpoint | undefined;

  constructor(options: QuicDialerOptions) {
    this.#options = options;
  }

  /** Connects; rejects with `signal.reason` when aborted. */
  dial(options: DialOptions): Promise<ClientConnection> {
    const { resolve } = this.#options;
    return raceAddresses(options.address, {
      signal: options.signal,
      ...(resolve === undefined ? {} : { resolve }),
      attempt: (hostname) => this.#connect(hostname, options),
      discard: (connection) => void connection.close(H3_NO_ERROR, ""),
    });
  }

  /** Closes every connection and the endpoint. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#connections].map((connection) => connection.close(H3_NO_ERROR, "")));
    this.#endpoint?.close({ closeCode: H3_NO_ERROR, reason: "" });
    this.#endpoint = undefined;
  }

  async #connect(hostname: string, options: DialOptions): Promise<ClientConnection> {
    const { address, serverName, roots, signal } = options;
    const { logger, keepAliveMs = 10_000, idleTimeoutMs = 30_000, maxIncomingStreams = 1024 } = this.#options;
    this.#endpoint ??= openEndpoint(logger);
    this.#sources.allow({ hostname, port: address.port }, { socket: this.#endpoint.addr.port, logger });
    const connecting = Promise.resolve(Deno.connectQuic({
      hostname,
      port: address.port,
      serverName,
      caCerts: [...roots],
      alpnProtocols: ["h3"],
      endpoint: this.#endpoint,
      keepAliveInterval: keepAliveMs,
      maxIdleTimeout: idleTimeoutMs,
      congestionControl: "low-latency",
      maxConcurrentBidirectionalStreams: maxIncomingStreams,
      maxConcurrentUnidirectionalStreams: MAX_UNI_STREAMS,
    }));
    // A dial that nobody waits for any more still completes, and must not stay open.
    const quic = await withSignal(connecting, signal).catch((error) => {
      connecting.then((late) => late.close({ closeCode: H3_NO_ERROR, reason: "" }), ignore);
      throw error;
    });
    const connection = new QuicClientConnection(quic, { logger });
    this.#connections.add(connection);
    connection.closed.then(() => this.#connections.delete(connection));
    return connection;
  }
}

/** Control and QPACK streams of a relay, and a few more. */
const MAX_UNI_STREAMS = 8;

function openEndpoint(logger: Logger): Deno.QuicEndpoint {
  const endpoint = bindEndpoint(logger);
  raiseSocketBuffers(endpoint.addr.port, logger);
  return endpoint;
}

function bindEndpoint(logger: Logger): Deno.QuicEndpoint {
  try {
    return new Deno.QuicEndpoint({ hostname: "::", port: 0 });
  } catch {
    logger.debug("ipv6_unavailable");
    return new Deno.QuicEndpoint({ hostname: "0.0.0.0", port: 0 });
  }
}

function ignore(): void {}
