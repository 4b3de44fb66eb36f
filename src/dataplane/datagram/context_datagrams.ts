/**
 * The datagrams of a connect-udp request (RFC 9298 §5): each begins with a context ID, and context 0 carries payloads.
 */

import type { DatagramPort } from "../carrier.ts";

const PAYLOAD_CONTEXT = 0;
const CONTEXT_SIZE = 1;

/** A request's port without the context IDs; one byte more in front of what is sent is overwritten. */
export class ContextDatagrams implements DatagramPort {
  readonly #port: DatagramPort;
  readonly #limit: number;

  /** `limit` says how many bytes of payload get through behind the first hop. */
  constructor(port: DatagramPort, { limit = Infinity }: { readonly limit?: number } = {}) {
    this.#port = port;
    this.#limit = limit;
  }

  get maxSize(): number {
    return Math.max(0, Math.min(this.#port.maxSize - CONTEXT_SIZE, this.#limit));
  }

  send(buffer: Uint8Array<ArrayBuffer>, start: number, end: number): boolean {
    buffer[start - CONTEXT_SIZE] = PAYLOAD_CONTEXT;
    return this.#port.send(buffer, start - CONTEXT_SIZE, end);
  }

  writable(): Promise<void> {
    return this.#port.writable();
  }

  receive(handler: (payload: Uint8Array<ArrayBuffer>) => void): void {
    this.#port.receive((payload) => {
      // RFC 9298 §4: datagrams of an unknown context are dropped in silence.
      if (payload[0] === PAYLOAD_CONTEXT) handler(payload.subarray(CONTEXT_SIZE));
    });
  }
}
