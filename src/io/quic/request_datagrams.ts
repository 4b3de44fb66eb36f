/**
 * The datagrams of one request over QUIC.
 */

import { errorMessage } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { DatagramPort } from "../../dataplane/carrier.ts";
import { varintSize, writeVarint } from "../../wire/varint.ts";
import type { DatagramSink, DatagramTable } from "./datagram_table.ts";

/** The state of a request's stream, to which its datagrams are bound. */
export interface StreamState {
  /** Whether the peer may still send. */
  readonly canRead: boolean;
  /** Whether we may still send. */
  readonly canWrite: boolean;
}

/** What a {@linkcode RequestDatagrams} is made from. */
export interface RequestDatagramsOptions {
  readonly streamId: number;
  readonly stream: StreamState;
  readonly logger: Logger;
}

/** A request's port to its connection's datagrams. Call `end()` when its stream is done. */
export class RequestDatagrams implements DatagramPort, DatagramSink {
  readonly #table: DatagramTable;
  readonly #options: RequestDatagramsOptions;
  readonly #quarter: number;
  /** Bytes of the quarter stream id in front of each payload. */
  readonly #prefix: number;
  #handler: ((payload: Uint8Array<ArrayBuffer>) => void) | undefined;
  #ended = false;
  #complained = false;

  constructor(table: DatagramTable, options: RequestDatagramsOptions) {
    this.#table = table;
    this.#options = options;
    this.#quarter = options.streamId / 4;
    this.#prefix = varintSize(this.#quarter);
  }

  get maxSize(): number {
    return this.#canSend ? Math.max(0, this.#table.maxFrameSize - this.#prefix) : 0;
  }

  send(buffer: Uint8Array<ArrayBuffer>, start: number, end: number): boolean {
    const first = start - this.#prefix;
    if (first < 0 || end > buffer.length || start > end) {
      throw new RangeError(`Cannot send datagram: ${start} to ${end} of ${buffer.length} bytes`);
    }
    if (!this.#canSend) return false;
    writeVarint(buffer, first, this.#quarter);
    return this.#table.send(buffer.subarray(first, end));
  }

  writable(): Promise<void> {
    return this.#canSend ? this.#table.room() : Promise.resolve();
  }

  receive(handler: (payload: Uint8Array<ArrayBuffer>) => void): void {
    if (this.#ended) return;
    this.#handler = handler;
    this.#table.add(this.#options.streamId, this);
  }

  onDatagram(payload: Uint8Array<ArrayBuffer>): void {
    // RFC 9297 §2.1: datagrams may be dropped once the receive side of their stream is closed.
    if (!this.#options.stream.canRead) return;
    try {
      this.#handler?.(payload);
    } catch (error) {
      // A fault of ours, which other requests of the connection must not pay for; one line tells of all.
      if (this.#complained) return;
      this.#complained = true;
      this.#options.logger.error("datagram_handler_failed", { reason: errorMessage(error) });
    }
  }

  /** The request is over: what comes is dropped, what is sent too. */
  end(): void {
    this.#ended = true;
    this.#handler = undefined;
    this.#table.remove(this.#options.streamId, this);
    this.#table.wake();
  }

  get #canSend(): boolean {
    // RFC 9297 §2.1: none may be sent unless the send side of their stream is open.
    return !this.#ended && this.#options.stream.canWrite;
  }
}
