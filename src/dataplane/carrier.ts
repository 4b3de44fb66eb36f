/**
 * The port through which relay, connector and agent use a connection, whatever carries it: QUIC or TLS over
 * TCP. `io/` implements it, `modes/` hands it in; nothing above the transport assumes either carrier.
 */

import type { HostPort } from "../base/address.ts";
import type { ByteChannel } from "../base/channel.ts";
import type { RequestHead, RequestInit, ResponseHead, ResponseInit } from "../wire/h3/message.ts";
import type { Field } from "../wire/qpack/static_table.ts";

export type { Field, RequestHead, RequestInit, ResponseHead, ResponseInit };

/** What carries a connection. */
export type CarrierKind = "quic" | "tls";

/** Why and how a connection or session ended; code 0 when nobody gave one. */
export interface CloseInfo {
  readonly code: number;
  readonly reason: string;
}

/** How {@linkcode ServerRequest.respond} goes on after the head. */
export interface RespondOptions {
  /** Ends our direction after the head and `body`. */
  readonly end?: boolean;
  /** First bytes of the body, sent together with the head. */
  readonly body?: Uint8Array;
}

/** How {@linkcode ClientConnection.request} behaves. */
export interface RequestOptions {
  readonly signal?: AbortSignal;
  /** The request has no body: our direction ends after the head. */
  readonly end?: boolean;
}

/** A client's request and its answer: `body` is the request body to write and the response body to read. */
export interface Exchange {
  readonly head: ResponseHead;
  readonly body: ByteChannel;
  readonly datagrams: DatagramPort;
}

/** Bytes that {@linkcode DatagramPort.send} may overwrite in front of what it sends. */
export const DATAGRAM_HEADROOM = 8;

/** The HTTP Datagrams of one request or session (RFC 9297 §2.1): no promise and no copy per datagram. */
export interface DatagramPort {
  /** Bytes of the largest payload one datagram takes now, 0 where none can be sent; it may change at any time. */
  readonly maxSize: number;
  /**
   * Sends `buffer[start, end)`; the {@linkcode DATAGRAM_HEADROOM} bytes before `start` are overwritten. The buffer may be
   * used again at once. Returns false, having dropped the datagram, while too many wait or where none can be sent.
   */
  send(buffer: Uint8Array<ArrayBuffer>, start: number, end: number): boolean;
  /** Resolves when {@linkcode send} takes datagrams again, or the connection has ended; at once when it does now. */
  writable(): Promise<void>;
  /** Hands every datagram of the peer to `handler`, which may keep it; before the first call they are dropped. */
  receive(handler: (payload: Uint8Array<ArrayBuffer>) => void): void;
}

/** One request at the server. Answer it once. */
export interface ServerRequest {
  readonly head: RequestHead;
  readonly connection: ServerConnection;
  readonly datagrams: DatagramPort;
  /** Sends the response head; the channel reads the request body and writes the response body. */
  respond(head: ResponseInit, options?: RespondOptions): Promise<ByteChannel>;
}

/** One peer's connection at the server. */
export interface ServerConnection {
  /** Unique in this process. */
  readonly id: string;
  readonly carrier: CarrierKind;
  /** The peer's address now: it may change while a QUIC connection lives. */
  readonly remote: HostPort;
  /** Requests in order of arrival; ends when the connection does. Iterate it once. */
  requests(): AsyncIterable<ServerRequest>;
  /** Answers an extended CONNECT for `webtransport` with 200. Rejects where the carrier has no sessions. */
  acceptWebTransport(request: ServerRequest): Promise<WebTransportSession>;
  /** Lifts the limits of a peer that has not proved who it is. */
  setAuthenticated(): void;
  /** Tells the peer to make no new requests here; running ones go on. */
  goaway(): Promise<void>;
  close(code: number, reason: string): void;
  /** Resolves when the connection has ended for whatever reason; never rejects. */
  readonly closed: Promise<CloseInfo>;
}

/** A connection to a relay. */
export interface ClientConnection {
  readonly carrier: CarrierKind;
  readonly remote: HostPort;
  request(head: RequestInit, options?: RequestOptions): Promise<Exchange>;
  connectWebTransport(init: WebTransportInit): Promise<WebTransportSession>;
  /** Resolves when the peer asked for no new requests (GOAWAY); stays pending otherwise. */
  readonly draining: Promise<void>;
  close(code: number, reason: string): Promise<void>;
  /** Resolves when the connection has ended for whatever reason; never rejects. */
  readonly closed: Promise<CloseInfo>;
}

/** Where and how to open a session. */
export interface WebTransportInit {
  readonly authority: string;
  readonly path: string;
  readonly headers?: readonly Field[];
  readonly signal?: AbortSignal;
}

/** A WebTransport session: streams both ways and datagrams over one connection. */
export interface WebTransportSession {
  /** Opens a two-way stream; the peer sees it at once, before the first write. */
  openStream(): Promise<ByteChannel>;
  /** Two-way streams that the peer opened. Iterate it once. */
  incomingStreams(): AsyncIterable<ByteChannel>;
  /** One-way streams that the peer opened: writing to them throws. Iterate it once. */
  incomingUniStreams(): AsyncIterable<ByteChannel>;
  readonly datagrams: DatagramPort;
  close(code: number, reason: string): Promise<void>;
  /** Resolves when the session has ended for whatever reason; never rejects. */
  readonly closed: Promise<CloseInfo>;
}
