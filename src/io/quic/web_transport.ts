/**
 * A WebTransport session over HTTP/3, either end: its CONNECT stream carries capsules, its streams and
 * datagrams come through the connection's session table.
 */

import type { ByteChannel } from "../../base/channel.ts";
import { errorMessage, GinnelError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { CloseInfo, DatagramPort, WebTransportSession } from "../../dataplane/carrier.ts";
import { CapsuleReader } from "../../wire/capsule/capsule.ts";
import {
  CLOSE_WEBTRANSPORT_SESSION,
  decodeCloseSession,
  encodeCloseSession,
} from "../../wire/capsule/webtransport.ts";
import { encodeWebTransportSignal } from "../../wire/h3/stream_signal.ts";
import { RawChannel } from "../h3/raw_channel.ts";
import { Queue } from "../queue.ts";
import type { Http3Connection } from "./http3_connection.ts";
import { RequestDatagrams } from "./request_datagrams.ts";
import type { SessionSink, SessionStream } from "./session_table.ts";

/** Longest capsule read: CLOSE_WEBTRANSPORT_SESSION has a code and at most 1,024 bytes of reason. */
const MAX_CAPSULE = 1028;

/** Where a session lives. */
export interface Http3SessionOptions {
  readonly http3: Http3Connection;
  /** The stream id of the CONNECT request. */
  readonly id: number;
  /** The content of the CONNECT request's stream. */
  readonly channel: ByteChannel;
  readonly logger: Logger;
}

/** One session. */
export class Http3Session implements WebTransportSession, SessionSink {
  readonly closed: Promise<CloseInfo>;
  readonly #http3: Http3Connection;
  readonly #id: number;
  readonly #channel: ByteChannel;
  readonly #streams = new Set<RawChannel>();
  readonly #bidi = new Queue<ByteChannel>({ onDrop: (channel) => channel.abort() });
  readonly #uni = new Queue<ByteChannel>({ onDrop: (channel) => channel.abort() });
  readonly #datagrams: RequestDatagrams;
  #settle!: (info: CloseInfo) => void;
  #ended = false;

  constructor(options: Http3SessionOptions) {
    this.#http3 = options.http3;
    this.#id = options.id;
    this.#channel = options.channel;
    this.closed = new Promise((resolve) => this.#settle = resolve);
    this.#http3.sessions.add(this.#id, this);
    this.#datagrams = new RequestDatagrams(this.#http3.datagrams, {
      streamId: this.#id,
      stream: { canRead: true, canWrite: true },
      logger: options.logger,
    });
    this.#readCapsules()
      .catch((error) => ({ code: 0, reason: errorMessage(error) }))
      .then((info) => {
        this.#finish(info);
        return this.#channel.closeWrite();
      })
      .catch(ignore);
  }

  get datagrams(): DatagramPort {
    return this.#datagrams;
  }

  async openStream(): Promise<ByteChannel> {
    const { pipe } = this.#ended ? refuse() : await this.#http3.openStream();
    // Not awaited: the signal leaves with the first bytes the caller writes, or alone when there are none.
    pipe.write(encodeWebTransportSignal("bidirectional", this.#id)).catch(ignore);
    const channel: RawChannel = new RawChannel(pipe, { onDone: () => this.#streams.delete(channel) });
    this.#streams.add(channel);
    return channel;
  }

  incomingStreams(): AsyncIterable<ByteChannel> {
    return this.#bidi;
  }

  incomingUniStreams(): AsyncIterable<ByteChannel> {
    return this.#uni;
  }

  async close(code: number, reason: string): Promise<void> {
    if (this.#ended) return;
    this.#finish({ code, reason });
    await this.#channel.write(encodeCloseSession({ code, reason })).catch(ignore);
    await this.#channel.closeWrite().catch(ignore);
  }

  onStream(stream: SessionStream): void {
    const { pipe, rest, direction, onDone } = stream;
    const channel: RawChannel = new RawChannel(pipe, {
      rest,
      onDone: () => {
        this.#streams.delete(channel);
        onDone?.();
      },
    });
    this.#streams.add(channel);
    (direction === "bidi" ? this.#bidi : this.#uni).push(channel);
  }

  onConnectionClosed(): void {
    this.#http3.closed.then((info) => this.#finish(info));
  }

  /** Resolves when the peer has ended the session, with what it said about it. */
  async #readCapsules(): Promise<CloseInfo> {
    const reader = new CapsuleReader({ maxLength: MAX_CAPSULE, known: KNOWN_CAPSULES });
    for (let bytes = await this.#channel.read(); bytes !== null; bytes = await this.#channel.read()) {
      reader.push(bytes);
      const capsule = reader.next();
      if (capsule !== undefined) return decodeCloseSession(capsule.value);
    }
    reader.end();
    return { code: 0, reason: "" };
  }

  #finish(info: CloseInfo): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#http3.sessions.remove(this.#id);
    this.#datagrams.end();
    for (const queue of [this.#bidi, this.#uni]) queue.close();
    for (const channel of [...this.#streams]) channel.abort();
    this.#settle(info);
  }
}

const KNOWN_CAPSULES: ReadonlySet<number> = new Set([CLOSE_WEBTRANSPORT_SESSION]);

function refuse(): never {
  throw new GinnelError("ERR_SESSION_CLOSED", "Session has ended");
}

function ignore(): void {}
