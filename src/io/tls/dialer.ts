/**
 * Dials relays with TLS over TCP: one connection per request, which may be opened before it is needed.
 */

import type { HostPort } from "../../base/address.ts";
import { withSignal } from "../../base/async.ts";
import { GinnelError, type ProtocolError } from "../../base/errors.ts";
import type {
  ClientConnection,
  CloseInfo,
  Exchange,
  RequestInit,
  RequestOptions,
  WebTransportSession,
} from "../../dataplane/carrier.ts";
import { requestFields } from "../../wire/h3/message.ts";
import { H3_NO_ERROR } from "../../wire/h3/codes.ts";
import { exchange } from "../h3/exchange.ts";
import { MessageChannel } from "../h3/message_channel.ts";
import { noDatagrams } from "../h3/no_datagrams.ts";
import { raceAddresses } from "../race_addresses.ts";
import { watchPath } from "../tcp/path_watch.ts";
import { TLS_CARRIER_ALPN } from "./listener.ts";
import { dropConnection, TlsPipe } from "./tls_pipe.ts";

/** Whom to dial and whom to trust. */
export interface DialTlsOptions {
  readonly address: HostPort;
  /** The name that the certificate must carry. */
  readonly serverName: string;
  /** Roots, PEM. The runtime adds them to its own, so that only the name says whose certificate it is. */
  readonly roots: readonly string[];
  readonly signal: AbortSignal;
  /** Finds the addresses of a name; default: the system's resolver. */
  readonly resolve?: (name: string) => Promise<readonly string[]>;
}

/** Connects; rejects with `signal.reason` when aborted. */
export async function dialTls(options: DialTlsOptions): Promise<ClientConnection> {
  const { signal, resolve } = options;
  const conn = await raceAddresses(options.address, {
    signal,
    ...(resolve === undefined ? {} : { resolve }),
    attempt: (hostname) => connect(hostname, options),
    discard: dropConnection,
  });
  return new TlsClientConnection(conn);
}

/** Bytes of a response's field section, encoded and decoded. */
const MAX_FIELD_SECTION_SIZE = 16_384;

class TlsClientConnection implements ClientConnection {
  readonly carrier = "tls";
  readonly remote: HostPort;
  readonly closed: Promise<CloseInfo>;
  /** Never resolves: the connection's one request ends it. */
  readonly draining: Promise<void> = new Promise(() => {});
  readonly #pipe: TlsPipe;
  #settle!: (info: CloseInfo) => void;
  #used = false;

  constructor(conn: Deno.TlsConn) {
    this.remote = { hostname: conn.remoteAddr.hostname, port: conn.remoteAddr.port };
    this.closed = new Promise((resolve) => this.#settle = resolve);
    this.#pipe = new TlsPipe(conn, {
      onClosed: watchPath({
        conn,
        onGone: () => this.#abort({ code: H3_NO_ERROR, reason: "the path is gone" }),
      }),
    });
  }

  async request(head: RequestInit, options: RequestOptions = {}): Promise<Exchange> {
    if (this.#used) throw new GinnelError("ERR_CARRIER_USED", "A TLS carrier takes one request");
    this.#used = true;
    const stream = new MessageChannel(this.#pipe, {
      reads: "response",
      method: head.method,
      maxFieldSectionSize: MAX_FIELD_SECTION_SIZE,
      onConnectionError: (error) => this.#fail(error),
      onDone: () => {
        this.#pipe.close();
        this.#settle({ code: 0, reason: "" });
      },
    });
    const datagrams = noDatagrams(this.closed);
    return await exchange(stream, { ...options, fields: requestFields(head), datagrams });
  }

  connectWebTransport(): Promise<WebTransportSession> {
    return Promise.reject(
      new GinnelError("ERR_WEBTRANSPORT_UNSUPPORTED", "A TLS carrier has no WebTransport sessions"),
    );
  }

  async close(code: number, reason: string): Promise<void> {
    this.#abort({ code, reason });
    await this.closed;
  }

  #fail(error: ProtocolError): void {
    this.#abort({ code: error.wireCode, reason: error.message });
  }

  #abort(info: CloseInfo): void {
    this.#pipe.abort();
    this.#settle(info);
  }
}

async function connect(hostname: string, options: DialTlsOptions): Promise<Deno.TlsConn> {
  const { address, serverName, roots, signal } = options;
  const connecting = Deno.connect({ hostname, port: address.port });
  const tcp = await withSignal(connecting, signal).catch((error) => {
    connecting.then((late) => late.close(), ignore);
    throw error;
  });
  tcp.setNoDelay(true);
  tcp.setKeepAlive(true);
  const conn = await Deno.startTls(tcp, {
    hostname: serverName,
    caCerts: [...roots],
    alpnProtocols: [TLS_CARRIER_ALPN],
  });
  try {
    const { alpnProtocol } = await withSignal(conn.handshake(), signal);
    if (alpnProtocol !== TLS_CARRIER_ALPN) {
      throw new GinnelError("ERR_CARRIER_UNSUPPORTED", `Server at ${hostname} is no relay's TLS carrier`);
    }
    return conn;
  } catch (error) {
    dropConnection(conn);
    throw error;
  }
}

function ignore(): void {}
