/**
 * The datagrams of the flows that share one session. Each begins with its flow's id:
 *
 *   +------------------+---------+
 *   | Flow ID (varint) | Payload |
 *   +------------------+---------+
 */

import { readVarint, varintLength, varintSize, writeVarint } from "../wire/varint.ts";
import { DATAGRAM_HEADROOM, type DatagramPort } from "./carrier.ts";

/** Bytes of the longest id. */
const MAX_ID_SIZE = 8;

/** Bytes that a {@linkcode FlowDatagramPort} may overwrite in front of what it sends: more than other ports. */
export const FLOW_DATAGRAM_HEADROOM = DATAGRAM_HEADROOM + MAX_ID_SIZE;

/** The flows of one session, by their ids; a datagram reaches the flow that is open here under its id, or nobody. */
export class FlowDatagrams {
  readonly #port: DatagramPort;
  readonly #flows = new Map<number, FlowDatagramPort>();

  constructor(port: DatagramPort) {
    this.#port = port;
    port.receive((frame) => this.#deliver(frame));
  }

  /** Bytes of the largest payload that any flow's datagram takes now. */
  get maxSize(): number {
    return Math.max(0, this.#port.maxSize - MAX_ID_SIZE);
  }

  /** Opens a flow; `undefined` when one has this id. End it. */
  open(id: number, options: { readonly limit?: number } = {}): FlowDatagramPort | undefined {
    if (this.#flows.has(id)) return undefined;
    const flow = new FlowDatagramPort(this.#port, {
      id,
      limit: options.limit ?? Infinity,
      onEnd: () => this.#flows.delete(id),
    });
    this.#flows.set(id, flow);
    return flow;
  }

  #deliver(frame: Uint8Array<ArrayBuffer>): void {
    const first = frame[0];
    if (first === undefined) return;
    const size = varintLength(first);
    if (frame.length < size) return;
    this.#flows.get(readVarint(frame, 0))?.deliver(frame, size);
  }
}

/** What a {@linkcode FlowDatagramPort} is made from. */
interface FlowDatagramOptions {
  readonly id: number;
  /** Bytes of the largest payload that the rest of the way takes. */
  readonly limit: number;
  readonly onEnd: () => void;
}

/** One flow's port to the datagrams of its session; see {@linkcode FLOW_DATAGRAM_HEADROOM}. */
export class FlowDatagramPort implements DatagramPort {
  readonly #port: DatagramPort;
  readonly #options: FlowDatagramOptions;
  /** Bytes of the id in front of each payload. */
  readonly #prefix: number;
  #handler: ((payload: Uint8Array<ArrayBuffer>) => void) | undefined;
  #ended = false;

  constructor(port: DatagramPort, options: FlowDatagramOptions) {
    this.#port = port;
    this.#options = options;
    this.#prefix = varintSize(options.id);
  }

  get maxSize(): number {
    if (this.#ended) return 0;
    return Math.max(0, Math.min(this.#port.maxSize - this.#prefix, this.#options.limit));
  }

  send(buffer: Uint8Array<ArrayBuffer>, start: number, end: number): boolean {
    if (this.#ended || end - start > this.#options.limit) return false;
    writeVarint(buffer, start - this.#prefix, this.#options.id);
    return this.#port.send(buffer, start - this.#prefix, end);
  }

  writable(): Promise<void> {
    return this.#ended ? Promise.resolve() : this.#port.writable();
  }

  receive(handler: (payload: Uint8Array<ArrayBuffer>) => void): void {
    if (!this.#ended) this.#handler = handler;
  }

  /** Takes a datagram that came for this flow; its payload begins at `start`. */
  deliver(frame: Uint8Array<ArrayBuffer>, start: number): void {
    this.#handler?.(frame.subarray(start));
  }

  /** The flow is over: what comes is dropped, what is sent too. Idempotent. */
  end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#handler = undefined;
    this.#options.onEnd();
  }
}
