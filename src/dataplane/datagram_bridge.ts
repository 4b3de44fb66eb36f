/**
 * Passes datagrams on between a caller's request and the flow at its connector, both ways, without looking into
 * them. Nothing waits and nothing is kept: what the far side does not take at once is dropped and counted.
 */

import { readVarint, varintLength } from "../wire/varint.ts";
import { DATAGRAM_HEADROOM, type DatagramPort } from "./carrier.ts";
import { FLOW_DATAGRAM_HEADROOM, type FlowDatagramPort } from "./flow_datagrams.ts";

/** What crossed a bridge, payloads only. */
export interface BridgeCounters {
  /** From the caller. */
  datagramsIn: number;
  bytesIn: number;
  /** To the caller. */
  datagramsOut: number;
  bytesOut: number;
  /** In either direction. */
  dropped: number;
}

/** The id of what a caller's datagrams hold (RFC 9298 §5): UDP payloads, and sealed ones in their place. */
const PAYLOAD_CONTEXT = 0;

/** Bytes of that id. */
const CONTEXT_SIZE = 1;

/** Sockets copy what they send at once, so that one buffer serves every bridge; larger frames do not exist. */
const BUFFER = new Uint8Array(FLOW_DATAGRAM_HEADROOM + 65_536);

/** The largest payload that crosses from either end to the other now; 0: none. */
export function bridgedSize(near: DatagramPort, far: { readonly maxSize: number }): number {
  return Math.max(0, Math.min(near.maxSize - CONTEXT_SIZE, far.maxSize));
}

/** What both ends were told of the way between them. */
export interface DatagramBridgeOptions {
  /** Bytes of the largest payload that either end may send as a datagram: {@linkcode bridgedSize} when the flow opened. */
  readonly limit: number;
  /** One of them did as it was told, and the other side's path takes less by now: the flow is to be opened anew. */
  readonly onOutgrown: () => void;
}

/** Joins a request's datagrams to a flow's until {@linkcode DatagramBridge.end}. */
export class DatagramBridge {
  readonly counters: BridgeCounters = {
    datagramsIn: 0,
    bytesIn: 0,
    datagramsOut: 0,
    bytesOut: 0,
    dropped: 0,
  };
  readonly #near: DatagramPort;
  readonly #far: FlowDatagramPort;
  readonly #limit: number;
  readonly #onOutgrown: () => void;
  #ended = false;

  constructor(near: DatagramPort, far: FlowDatagramPort, { limit, onOutgrown }: DatagramBridgeOptions) {
    this.#near = near;
    this.#far = far;
    this.#limit = limit;
    this.#onOutgrown = onOutgrown;
    near.receive((payload) => this.#toFar(payload));
    far.receive((payload) => this.#toNear(payload));
  }

  /** What crossed beside the flow's stream and, from the caller's side of its splice, on it: as an audit line says it. */
  withStream(stream: { readonly bytesAtoB: number; readonly bytesBtoA: number }) {
    const { bytesIn, bytesOut, datagramsIn, datagramsOut } = this.counters;
    return {
      bytesIn: stream.bytesAtoB + bytesIn,
      bytesOut: stream.bytesBtoA + bytesOut,
      packetsIn: datagramsIn,
      packetsOut: datagramsOut,
    };
  }

  /** Passes nothing on any more, and frees the flow's id. Idempotent. */
  end(): void {
    this.#ended = true;
    this.#far.end();
  }

  #toFar(payload: Uint8Array<ArrayBuffer>): void {
    const size = contextSize(payload);
    // RFC 9298 §4: datagrams of a context that is not known are dropped.
    if (this.#ended || size === undefined) return;
    const { counters } = this;
    // The context lies in what the port may overwrite.
    BUFFER.set(payload, FLOW_DATAGRAM_HEADROOM - size);
    const end = FLOW_DATAGRAM_HEADROOM + payload.length - size;
    if (this.#far.send(BUFFER, FLOW_DATAGRAM_HEADROOM, end)) {
      counters.datagramsIn++;
      counters.bytesIn += payload.length - size;
    } else {
      counters.dropped++;
      this.#checkSize(payload.length - size, this.#far.maxSize);
    }
  }

  #toNear(payload: Uint8Array<ArrayBuffer>): void {
    if (this.#ended) return;
    const { counters } = this;
    BUFFER.set(payload, DATAGRAM_HEADROOM + CONTEXT_SIZE);
    BUFFER[DATAGRAM_HEADROOM] = PAYLOAD_CONTEXT;
    if (this.#near.send(BUFFER, DATAGRAM_HEADROOM, DATAGRAM_HEADROOM + CONTEXT_SIZE + payload.length)) {
      counters.datagramsOut++;
      counters.bytesOut += payload.length;
    } else {
      counters.dropped++;
      this.#checkSize(payload.length, this.#near.maxSize - CONTEXT_SIZE);
    }
  }

  /** Tells a path that has become narrower from one that is full, or gone. */
  #checkSize(size: number, room: number): void {
    if (size <= this.#limit && size > room && room > 0) this.#onOutgrown();
  }
}

/** Bytes of the context id in front of a payload; `undefined` where it is another one, or cut short. */
function contextSize(payload: Uint8Array): number | undefined {
  const first = payload[0];
  if (first === PAYLOAD_CONTEXT) return CONTEXT_SIZE;
  if (first === undefined) return undefined;
  // RFC 9000 §16: a number need not come in its shortest form.
  const size = varintLength(first);
  return payload.length >= size && readVarint(payload, 0) === PAYLOAD_CONTEXT ? size : undefined;
}
