/**
 * What both ends of an HTTP/3 connection over QUIC share: the control streams, the incoming streams, the
 * datagrams, the sessions, and the one place where an error becomes the connection's close code.
 */

import { HEADROOM } from "../../base/channel.ts";
import { errorCode, errorMessage, ProtocolError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { CloseInfo } from "../../dataplane/carrier.ts";
import { H3_EXCESSIVE_LOAD, H3_INTERNAL_ERROR, H3_STREAM_CREATION_ERROR } from "../../wire/h3/codes.ts";
import {
  ControlState,
  encodeControlPreface,
  encodeGoaway,
  type UniStreamHandler,
} from "../../wire/h3/control.ts";
import type { LocalSettings, Settings } from "../../wire/h3/settings.ts";
import { StreamSignalReader } from "../../wire/h3/stream_signal.ts";
import { MIN_READ_SIZE } from "../h3/read_size.ts";
import { DatagramTable } from "./datagram_table.ts";
import { QuicPipe } from "./quic_pipe.ts";
import { SessionTable } from "./session_table.ts";

/** A request stream that the peer opened, with the bytes already read from it. */
export interface IncomingRequest {
  readonly pipe: QuicPipe;
  readonly id: number;
  readonly rest: Uint8Array<ArrayBuffer>;
}

/** What one end adds to the shared part. */
export interface Http3ConnectionOptions {
  readonly role: "server" | "client";
  readonly settings: LocalSettings;
  readonly logger: Logger;
  /** Takes a request stream; a client has none, so there it is absent and such a stream is an error. */
  readonly onRequest?: (request: IncomingRequest) => void;
  /** The peer wants no new requests. */
  readonly onGoaway?: () => void;
  /** How many streams the peer may have open now. */
  readonly maxOpenStreams: () => number;
}

/** Buffer size of control streams: every idle connection keeps one to three of them. */
const SIGNAL_READ_SIZE = 256;

/** An HTTP/3 connection, either end. */
export class Http3Connection {
  readonly quic: Deno.QuicConn;
  readonly sessions = new SessionTable();
  readonly datagrams: DatagramTable;
  /** Resolves when the connection has ended; never rejects. */
  readonly closed: Promise<CloseInfo>;
  /** Resolves with the peer's SETTINGS; stays pending if they never come. */
  readonly peerSettings: Promise<Settings>;
  readonly #options: Http3ConnectionOptions;
  readonly #control: ControlState;
  #settle!: (settings: Settings) => void;
  #controlPipe: Promise<QuicPipe> | undefined;
  #openStreams = 0;
  #localClose: CloseInfo | undefined;
  #ended = false;

  constructor(quic: Deno.QuicConn, options: Http3ConnectionOptions) {
    this.quic = quic;
    this.#options = options;
    this.#control = new ControlState(options.role);
    this.datagrams = new DatagramTable(quic);
    this.peerSettings = new Promise((resolve) => this.#settle = resolve);
    this.closed = quic.closed.then(
      ({ closeCode, reason }) => this.#localClose ?? { code: closeCode, reason },
      (error) => this.#localClose ?? { code: 0, reason: errorMessage(error) },
    );
    this.closed.then(() => {
      this.#ended = true;
      this.sessions.closeAll();
      this.datagrams.close();
    });
  }

  /** Opens our control stream and starts to read everything the peer sends. Call it once. */
  start(): void {
    this.#controlPipe = this.#openControl();
    for (const task of [this.#controlPipe, this.#acceptUni(), this.#acceptBidi(), this.#readDatagrams()]) {
      task.catch((error) => this.fail(error));
    }
  }

  /** Opens a two-way stream. */
  async openStream(): Promise<{ pipe: QuicPipe; id: number }> {
    const stream = await this.quic.createBidirectionalStream({ waitUntilAvailable: true });
    return { pipe: new QuicPipe(stream), id: Number(stream.writable.id) };
  }

  /** Tells the peer that requests from stream `id` on are not served. */
  async sendGoaway(id: number): Promise<void> {
    const pipe = await this.#controlPipe;
    await pipe?.write(encodeGoaway(id));
  }

  /** Ends the connection because of `error`: here, and only here, it becomes a close code. */
  fail(error: unknown): void {
    if (this.#localClose !== undefined) return;
    if (error instanceof ProtocolError) {
      this.#options.logger.debug("peer_broke_protocol", { wireCode: error.wireCode, reason: error.message });
      return this.close(error.wireCode, error.message);
    }
    // Every loop fails when the connection is gone, a little before or after `closed` says why.
    this.#whenStillOpen(() => {
      this.#options.logger.warn("connection_failed", { code: errorCode(error), reason: errorMessage(error) });
      this.close(H3_INTERNAL_ERROR, "");
    });
  }

  /** Closes with a code of the application. Idempotent: the first reason stays. */
  close(code: number, reason: string): void {
    if (this.#localClose !== undefined) return;
    this.#localClose = { code, reason };
    this.quic.close({ closeCode: code, reason });
  }

  /** One of the streams counted in `maxOpenStreams` has ended. */
  streamDone(): void {
    this.#openStreams--;
  }

  async #openControl(): Promise<QuicPipe> {
    const writable = await this.quic.createUnidirectionalStream({ waitUntilAvailable: true });
    const pipe = new QuicPipe({ writable });
    await pipe.write(encodeControlPreface(this.#options.settings));
    return pipe;
  }

  async #acceptUni(): Promise<void> {
    for await (const readable of this.quic.incomingUnidirectionalStreams) {
      this.#readUni(new QuicPipe({ readable })).catch((error) => this.fail(error));
    }
  }

  async #readUni(pipe: QuicPipe): Promise<void> {
    const handler = this.#control.openStream();
    let buffer = newBuffer(SIGNAL_READ_SIZE);
    for (;;) {
      const chunk = await pipe.read(buffer).catch(ignoreReset);
      if (this.#localClose !== undefined) return pipe.cancelRead();
      if (chunk === null) return this.#whenStillOpen(() => this.#endUni(handler));
      const verdict = handler.push(chunk);
      this.#takeEvents();
      if (verdict.kind === "ignore") return pipe.cancelRead();
      if (verdict.kind === "webtransport") {
        return this.sessions.deliver(verdict.sessionId, { pipe, rest: verdict.rest, direction: "uni" });
      }
      buffer = new Uint8Array(chunk.buffer, HEADROOM);
    }
  }

  #whenStillOpen(action: () => void): void {
    setTimeout(() => this.#ended || action(), 0);
  }

  #endUni(handler: UniStreamHandler): void {
    try {
      handler.end();
    } catch (error) {
      this.fail(error);
    }
  }

  #takeEvents(): void {
    for (let event = this.#control.pollEvent(); event !== undefined; event = this.#control.pollEvent()) {
      if (event.kind === "settings") {
        this.#settle(event.settings);
        if (event.settings.datagrams) this.datagrams.allow();
      } else {
        this.#options.onGoaway?.();
      }
    }
  }

  async #acceptBidi(): Promise<void> {
    for await (const stream of this.quic.incomingBidirectionalStreams) {
      if (++this.#openStreams > this.#options.maxOpenStreams()) {
        throw new ProtocolError("connection", H3_EXCESSIVE_LOAD, "Too many open streams");
      }
      const id = Number(stream.writable.id);
      this.#readBidi(new QuicPipe(stream), id).catch((error) => this.fail(error));
    }
  }

  async #readBidi(pipe: QuicPipe, id: number): Promise<void> {
    const reader = new StreamSignalReader("bidirectional");
    let buffer = newBuffer(MIN_READ_SIZE);
    for (;;) {
      const chunk = await pipe.read(buffer).catch(ignoreReset);
      if (chunk === null) {
        pipe.abort();
        return this.streamDone();
      }
      const signal = reader.push(chunk);
      if (signal?.kind === "webtransport") {
        const onDone = () => this.streamDone();
        return this.sessions.deliver(signal.sessionId, {
          pipe,
          rest: signal.rest,
          direction: "bidi",
          onDone,
        });
      }
      if (signal?.kind === "other") {
        // RFC 9114 §6.1: a client receives no bidirectional streams but those of an extension.
        if (this.#options.onRequest === undefined) {
          throw new ProtocolError("connection", H3_STREAM_CREATION_ERROR, "Server opened a request stream");
        }
        return this.#options.onRequest({ pipe, id, rest: signal.rest });
      }
      buffer = new Uint8Array(chunk.buffer, HEADROOM);
    }
  }

  /** Always reads, even when nobody listens: unread datagrams would fill the transport's 1.25 MB. */
  async #readDatagrams(): Promise<void> {
    for (;;) this.datagrams.deliver(await this.quic.readDatagram());
  }
}

function newBuffer(size: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(new ArrayBuffer(HEADROOM + size), HEADROOM);
}

function ignoreReset(): null {
  return null;
}
