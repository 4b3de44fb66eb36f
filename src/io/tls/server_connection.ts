/**
 * The server's side of a TLS carrier: one connection, one request.
 */

import type { HostPort } from "../../base/address.ts";
import { errorMessage, GinnelError, type ProtocolError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type {
  CloseInfo,
  ServerConnection,
  ServerRequest,
  WebTransportSession,
} from "../../dataplane/carrier.ts";
import { Http3Request } from "../h3/http3_request.ts";
import { MessageChannel } from "../h3/message_channel.ts";
import { noDatagrams } from "../h3/no_datagrams.ts";
import { rejectRequest } from "../h3/rejection.ts";
import { Queue } from "../queue.ts";
import { TLS_CARRIER_ALPN, type TlsLimits } from "./listener.ts";
import { TlsPipe } from "./tls_pipe.ts";

/** What a server's connection is made from. */
export interface TlsServerConnectionOptions {
  readonly id: string;
  readonly limits: TlsLimits;
  readonly logger: Logger;
}

/** One accepted connection. */
export class TlsServerConnection implements ServerConnection {
  readonly carrier = "tls";
  readonly id: string;
  readonly remote: HostPort;
  readonly closed: Promise<CloseInfo>;
  readonly #conn: Deno.TlsConn;
  readonly #pipe: TlsPipe;
  readonly #options: TlsServerConnectionOptions;
  readonly #requests = new Queue<ServerRequest>({ onDrop: () => this.close(0, "") });
  readonly #timer: ReturnType<typeof setTimeout>;
  #settle!: (info: CloseInfo) => void;
  #authenticated = false;

  constructor(conn: Deno.TlsConn, options: TlsServerConnectionOptions) {
    this.id = options.id;
    this.remote = { hostname: conn.remoteAddr.hostname, port: conn.remoteAddr.port };
    this.closed = new Promise((resolve) => this.#settle = resolve);
    this.#conn = conn;
    this.#pipe = new TlsPipe(conn);
    this.#options = options;
    this.#timer = setTimeout(
      () => this.close(0, "Not authenticated in time"),
      options.limits.unauthenticatedMs,
    );
  }

  /** Whether the peer still has to prove who it is. */
  get unauthenticated(): boolean {
    return !this.#authenticated;
  }

  /** Completes the handshake and begins to read the request. */
  async handshake(): Promise<void> {
    try {
      const { alpnProtocol } = await this.#conn.handshake();
      if (alpnProtocol !== TLS_CARRIER_ALPN) throw new Error("Peer did not ask for the carrier's protocol");
    } catch (error) {
      this.close(0, errorMessage(error));
      throw error;
    }
    void this.#serve();
  }

  requests(): AsyncIterable<ServerRequest> {
    return this.#requests;
  }

  setAuthenticated(): void {
    this.#authenticated = true;
    clearTimeout(this.#timer);
  }

  acceptWebTransport(_request: ServerRequest): Promise<WebTransportSession> {
    return Promise.reject(
      new GinnelError("ERR_WEBTRANSPORT_UNSUPPORTED", "A TLS carrier has no WebTransport sessions"),
    );
  }

  /** The connection's one request is under way or done: there is nothing to announce. */
  async goaway(): Promise<void> {}

  close(code: number, reason: string): void {
    this.#pipe.abort();
    this.#end({ code, reason });
  }

  async #serve(): Promise<void> {
    const stream = new MessageChannel(this.#pipe, {
      reads: "request",
      maxFieldSectionSize: this.#options.limits.maxFieldSectionSize,
      onConnectionError: (error) => this.#fail(error),
      onDone: () => {
        this.#pipe.close();
        this.#end({ code: 0, reason: "" });
      },
    });
    try {
      const event = await stream.readHead();
      if (event.kind !== "request") throw new TypeError("Expected a request");
      const datagrams = noDatagrams(this.closed);
      this.#requests.push(
        new Http3Request({ stream, connection: this, head: event.head, datagrams, streamId: 0 }),
      );
    } catch (error) {
      await rejectRequest(stream, error);
    }
  }

  #end(info: CloseInfo): void {
    clearTimeout(this.#timer);
    this.#requests.close();
    this.#settle(info);
  }

  /** TLS carries no code: a broken protocol ends the connection, and the log says why. */
  #fail(error: ProtocolError): void {
    const { wireCode, message } = error;
    this.#options.logger.debug("peer_broke_protocol", { wireCode, reason: message });
    this.close(wireCode, message);
  }
}
