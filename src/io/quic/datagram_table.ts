/**
 * The HTTP Datagrams of one connection (RFC 9297 §2.1): which request gets what comes, and how much may wait to
 * leave. The transport's own buffers hold 1 MiB out and 1.25 MB in, of which it drops the oldest.
 */

import { decodeHttpDatagram } from "../../wire/http_datagram.ts";

/** Datagrams that wait for a full transport: room for one wakes them all, which costs 3 µs each with 256. */
const MAX_WAITING = 32;

/** Who waits for room is woken when so few wait, lest one datagram leaves per wake-up. */
const FEW_WAITING = MAX_WAITING / 2;

/** Datagrams of one turn, in which the transport cannot say that it took any: it may be nowhere near full. 360 KB. */
const MAX_BURST = 256;

/** Microtasks in which the transport says that it took a datagram, and a few more. */
const SETTLING_STEPS = 8;

/** Takes the datagrams of one request, as views that it may keep. */
export interface DatagramSink {
  onDatagram(payload: Uint8Array<ArrayBuffer>): void;
}

/** What it needs of a connection. */
export type DatagramTransport = Pick<Deno.QuicConn, "sendDatagram" | "maxDatagramSize">;

/** The datagrams of one connection, by the stream id of their request. */
export class DatagramTable {
  readonly #quic: DatagramTransport;
  readonly #sinks = new Map<number, DatagramSink>();
  #peerTakesThem = false;
  #inFlight = 0;
  /** Some of a burst still waited when all that had room were taken. */
  #full = false;
  #checking = false;
  #closed = false;
  #waiting: PromiseWithResolvers<void> | undefined;
  /** What the transport takes, from a burst's first frame until one of it is done: to ask costs 0.5 µs. */
  #burstSize: number | undefined;
  /** One function for all: nothing is allocated per datagram. A failure means that the datagram is lost. */
  readonly #onSettled = (): void => {
    this.#inFlight--;
    this.#burstSize = undefined;
    if (this.#inFlight === 0) this.#full = false;
    if (this.#waiting !== undefined && this.#inFlight <= FEW_WAITING) this.wake();
  };

  constructor(quic: DatagramTransport) {
    this.#quic = quic;
  }

  /** Bytes of the largest frame that can be sent now; 0 where none can. */
  get maxFrameSize(): number {
    // RFC 9297 §2.1.1: none may be sent before the peer's setting allows them.
    return this.#peerTakesThem && !this.#closed ? this.#burstSize ?? this.#quic.maxDatagramSize : 0;
  }

  /** The peer's SETTINGS take datagrams. */
  allow(): void {
    this.#peerTakesThem = true;
    this.wake();
  }

  /** Gives a request's datagrams to `sink` from now on. */
  add(streamId: number, sink: DatagramSink): void {
    if (!this.#closed) this.#sinks.set(streamId, sink);
  }

  /** Drops a request's datagrams from now on, if they are still the sink's. */
  remove(streamId: number, sink: DatagramSink): void {
    if (this.#sinks.get(streamId) === sink) this.#sinks.delete(streamId);
  }

  /** Routes a frame that came; throws the connection's error when it is malformed. */
  deliver(frame: Uint8Array<ArrayBuffer>): void {
    const { streamId, payload } = decodeHttpDatagram(frame);
    // RFC 9297 §2.1: datagrams of streams that have ended, or do not exist yet, are dropped in silence.
    this.#sinks.get(streamId)?.onDatagram(payload);
  }

  /** Sends a frame, which is copied at once; false when it was dropped. */
  send(frame: Uint8Array): boolean {
    const limit = this.maxFrameSize;
    if (frame.length > limit || !this.#hasRoom()) return false;
    this.#burstSize = limit;
    this.#inFlight++;
    if (this.#inFlight === MAX_WAITING && !this.#checking) void this.#checkFull();
    this.#quic.sendDatagram(frame).then(this.#onSettled, this.#onSettled);
    return true;
  }

  /** Resolves when {@linkcode send} takes frames, the connection has ended, or {@linkcode wake} is called. */
  room(): Promise<void> {
    if (this.#closed || (this.#peerTakesThem && this.#hasRoom())) return Promise.resolve();
    this.#waiting ??= Promise.withResolvers();
    return this.#waiting.promise;
  }

  /** Lets everybody who waits for room look again. */
  wake(): void {
    this.#waiting?.resolve();
    this.#waiting = undefined;
  }

  /** The connection has ended. */
  close(): void {
    this.#closed = true;
    this.#sinks.clear();
    this.wake();
  }

  #hasRoom(): boolean {
    return this.#inFlight < (this.#full ? MAX_WAITING : MAX_BURST);
  }

  async #checkFull(): Promise<void> {
    this.#checking = true;
    for (let step = 0; step < SETTLING_STEPS; step++) await undefined;
    this.#checking = false;
    this.#full = this.#inFlight > 0;
  }
}
