/**
 * The client's side of an HTTP/3 connection over QUIC.
 */

import type { HostPort } from "../../base/address.ts";
import { withSignal } from "../../base/async.ts";
import { GinnelError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type {
  ClientConnection,
  CloseInfo,
  Exchange,
  RequestInit,
  RequestOptions,
  WebTransportInit,
  WebTransportSession,
} from "../../dataplane/carrier.ts";
import { requestFields } from "../../wire/h3/message.ts";
import type { Settings } from "../../wire/h3/settings.ts";
import { MessageChannel } from "../h3/message_channel.ts";
import { exchange } from "../h3/exchange.ts";
import { Http3Connection } from "./http3_connection.ts";
import { RequestDatagrams } from "./request_datagrams.ts";
import { Http3Session } from "./web_transport.ts";

/** Bytes of a response's field section, encoded and decoded. */
const MAX_FIELD_SECTION_SIZE = 16_384;

/** What a client's connection is made from. */
export interface QuicClientConnectionOptions {
  readonly logger: Logger;
  /** Sessions whose streams the server may open; it never opens others. */
  readonly maxSessions?: number;
}

/** A connection to a relay over QUIC. */
export class QuicClientConnection implements ClientConnection {
  readonly carrier = "quic";
  readonly closed: Promise<CloseInfo>;
  readonly draining: Promise<void>;
  readonly #http3: Http3Connection;
  readonly #logger: Logger;
  #settings: Settings | undefined;
  #drains = false;

  constructor(quic: Deno.QuicConn, options: QuicClientConnectionOptions) {
    this.#logger = options.logger;
    let drain!: () => void;
    this.draining = new Promise((resolve) => drain = resolve);
    this.#http3 = new Http3Connection(quic, {
      role: "client",
      settings: {
        maxFieldSectionSize: MAX_FIELD_SECTION_SIZE,
        connectProtocol: true,
        datagrams: true,
        webTransportSessions: options.maxSessions ?? 1,
      },
      logger: options.logger,
      onGoaway: () => {
        this.#drains = true;
        drain();
      },
      // The streams are the relay's flows; the transport's own limit bounds them.
      maxOpenStreams: () => Infinity,
    });
    this.closed = this.#http3.closed;
    this.#http3.peerSettings.then((settings) => this.#settings = settings);
    this.#http3.start();
  }

  get remote(): HostPort {
    const { hostname, port } = this.#http3.quic.remoteAddr;
    return { hostname, port };
  }

  async request(head: RequestInit, options: RequestOptions = {}): Promise<Exchange> {
    const { answer } = await this.#start(head, options);
    return answer;
  }

  async connectWebTransport(init: WebTransportInit): Promise<WebTransportSession> {
    const { authority, path, headers = [], signal } = init;
    const head = { method: "CONNECT", protocol: "webtransport", authority, path, headers };
    const settings = await this.#peerSettings(signal);
    if (!settings.webTransport) {
      throw new GinnelError("ERR_WEBTRANSPORT_UNSUPPORTED", "Relay does not accept WebTransport sessions");
    }
    const { answer, id } = await this.#start(head, signal === undefined ? {} : { signal });
    if (answer.head.status >= 300) {
      answer.body.abort();
      throw new GinnelError("ERR_SESSION_REFUSED", `Relay refused the session: status ${answer.head.status}`);
    }
    return new Http3Session({ http3: this.#http3, id, channel: answer.body, logger: this.#logger });
  }

  async close(code: number, reason: string): Promise<void> {
    this.#http3.close(code, reason);
    await this.closed;
  }

  async #start(head: RequestInit, options: RequestOptions): Promise<{ answer: Exchange; id: number }> {
    // RFC 9114 §5.2: no new requests after GOAWAY.
    if (this.#drains) throw new GinnelError("ERR_CONNECTION_DRAINING", "Relay takes no new requests");
    if (head.protocol !== undefined && !(await this.#peerSettings(options.signal)).connectProtocol) {
      // RFC 9220 §3: extended CONNECT only when the server's SETTINGS allow it.
      throw new GinnelError("ERR_EXTENDED_CONNECT_UNSUPPORTED", "Server does not take extended CONNECT");
    }
    const { pipe, id } = await this.#http3.openStream();
    const stream = new MessageChannel(pipe, {
      reads: "response",
      method: head.method,
      maxFieldSectionSize: MAX_FIELD_SECTION_SIZE,
      onConnectionError: (error) => this.#http3.fail(error),
      onDone: () => datagrams.end(),
    });
    const datagrams = new RequestDatagrams(this.#http3.datagrams, {
      streamId: id,
      stream,
      logger: this.#logger,
    });
    return { answer: await exchange(stream, { ...options, fields: requestFields(head), datagrams }), id };
  }

  /** The relay's SETTINGS; asked for by every request, so once known they cost no promise on `closed`. */
  #peerSettings(signal: AbortSignal | undefined): Settings | Promise<Settings> {
    if (this.#settings !== undefined) return this.#settings;
    const ended = this.closed.then(({ code, reason }) => {
      throw new GinnelError("ERR_CONNECTION_CLOSED", `Connection closed: ${reason || `code ${code}`}`);
    });
    const settings = Promise.race([this.#http3.peerSettings, ended]);
    return signal === undefined ? settings : withSignal(settings, signal);
  }
}
