/**
 * The server's side of an HTTP/3 connection over QUIC: requests in, responses and sessions out, and the
 * limits of a peer that has not proved who it is.
 */

import type { HostPort } from "../../base/address.ts";
import type { Logger } from "../../base/log.ts";
import type {
  CloseInfo,
  ServerConnection,
  ServerRequest,
  WebTransportSession,
} from "../../dataplane/carrier.ts";
import { H3_EXCESSIVE_LOAD } from "../../wire/h3/codes.ts";
import type { Field } from "../../wire/qpack/static_table.ts";
import { Http3Request } from "../h3/http3_request.ts";
import { MessageChannel } from "../h3/message_channel.ts";
import { rejectRequest } from "../h3/rejection.ts";
import { Queue } from "../queue.ts";
import { Http3Connection, type IncomingRequest } from "./http3_connection.ts";
import type { QuicLimits } from "./limits.ts";
import { RequestDatagrams } from "./request_datagrams.ts";
import { Http3Session } from "./web_transport.ts";

/** What a server's connection is made from. */
export interface QuicServerConnectionOptions {
  readonly id: string;
  readonly limits: QuicLimits;
  readonly logger: Logger;
}

/** One accepted connection. */
export class QuicServerConnection implements ServerConnection {
  readonly carrier = "quic";
  readonly id: string;
  readonly closed: Promise<CloseInfo>;
  readonly #http3: Http3Connection;
  readonly #limits: QuicLimits;
  readonly #logger: Logger;
  readonly #requests = new Queue<ServerRequest>({ onDrop: (request) => void refuseLate(request) });
  #authenticated = false;
  #nextRequestId = 0;
  #goawayId = Infinity;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(quic: Deno.QuicConn, options: QuicServerConnectionOptions) {
    this.id = options.id;
    this.#limits = options.limits;
    this.#logger = options.logger;
    this.#http3 = new Http3Connection(quic, {
      role: "server",
      settings: {
        maxFieldSectionSize: options.limits.maxFieldSectionSize,
        connectProtocol: true,
        datagrams: true,
        webTransportSessions: options.limits.maxSessions,
      },
      logger: options.logger,
      onRequest: (request) => void this.#serve(request),
      maxOpenStreams: () => this.#authenticated ? Infinity : this.#limits.unauthenticatedStreams,
    });
    this.closed = this.#http3.closed;
    this.closed.then(() => {
      clearTimeout(this.#timer);
      this.#requests.close();
    });
    this.#timer = setTimeout(
      () => this.close(H3_EXCESSIVE_LOAD, "Not authenticated in time"),
      this.#limits.unauthenticatedMs,
    );
    this.#http3.start();
  }

  get remote(): HostPort {
    const { hostname, port } = this.#http3.quic.remoteAddr;
    return { hostname, port };
  }

  /** Whether the peer still has to prove who it is. */
  get unauthenticated(): boolean {
    return !this.#authenticated;
  }

  requests(): AsyncIterable<ServerRequest> {
    return this.#requests;
  }

  setAuthenticated(): void {
    this.#authenticated = true;
    clearTimeout(this.#timer);
  }

  async acceptWebTransport(request: ServerRequest): Promise<WebTransportSession> {
    if (!(request instanceof Http3Request) || request.connection !== this) {
      throw new TypeError("Cannot accept session: the request is not of this connection");
    }
    // Browsers that speak the first deployed form ask for this answer; others ignore it.
    const headers: Field[] = request.head.headers.has("sec-webtransport-http3-draft02")
      ? [["sec-webtransport-http3-draft", "draft02"]]
      : [];
    const channel = await request.respond({ status: 200, headers });
    return new Http3Session({ http3: this.#http3, id: request.streamId, channel, logger: this.#logger });
  }

  async goaway(): Promise<void> {
    this.#goawayId = Math.min(this.#goawayId, this.#nextRequestId);
    await this.#http3.sendGoaway(this.#goawayId);
  }

  close(code: number, reason: string): void {
    this.#http3.close(code, reason);
  }

  async #serve(incoming: IncomingRequest): Promise<void> {
    const stream = new MessageChannel(incoming.pipe, {
      reads: "request",
      maxFieldSectionSize: this.#limits.maxFieldSectionSize,
      rest: incoming.rest,
      onConnectionError: (error) => this.#http3.fail(error),
      onDone: () => {
        this.#http3.streamDone();
        datagrams.end();
      },
    });
    const datagrams = new RequestDatagrams(this.#http3.datagrams, {
      streamId: incoming.id,
      stream,
      logger: this.#logger,
    });
    try {
      const event = await stream.readHead();
      if (event.kind !== "request") throw new TypeError("Expected a request");
      this.#nextRequestId = Math.max(this.#nextRequestId, incoming.id + 4);
      const request = new Http3Request({
        stream,
        connection: this,
        head: event.head,
        datagrams,
        streamId: incoming.id,
      });
      // RFC 9114 §5.2: requests from the id in GOAWAY on are not served.
      if (incoming.id >= this.#goawayId) await refuseLate(request);
      else this.#requests.push(request);
    } catch (error) {
      await rejectRequest(stream, error);
    }
  }
}

async function refuseLate(request: ServerRequest): Promise<void> {
  await request.respond({ status: 503 }, { end: true }).catch(ignore);
}

function ignore(): void {}
