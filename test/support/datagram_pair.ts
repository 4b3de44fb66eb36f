/**
 * Two datagram ports joined in memory, strict about the contract, and a path between them that may do what it likes.
 */

import assert from "node:assert/strict";
import { DATAGRAM_HEADROOM, type DatagramPort } from "../../src/dataplane/carrier.ts";

/** Joins two ports: what one sends, the other gets at once. */
export function datagramPair(maxSize = 1_400): [MemoryDatagrams, MemoryDatagrams] {
  const [near, far] = [new MemoryDatagrams(maxSize), new MemoryDatagrams(maxSize)];
  near.carry = (datagram) => far.deliver(datagram);
  far.carry = (datagram) => near.deliver(datagram);
  return [near, far];
}

/** One end of a {@linkcode datagramPair}. */
export class MemoryDatagrams implements DatagramPort {
  maxSize: number;
  /** Takes what is sent; set it to lose, repeat or forge. */
  carry: (datagram: Uint8Array<ArrayBuffer>) => void = () => {};
  #handler: ((payload: Uint8Array<ArrayBuffer>) => void) | undefined;
  #room: PromiseWithResolvers<void> | undefined;

  constructor(maxSize: number) {
    this.maxSize = maxSize;
  }

  send(buffer: Uint8Array<ArrayBuffer>, start: number, end: number): boolean {
    assert.ok(start >= DATAGRAM_HEADROOM && start <= end && end <= buffer.length);
    if (end - start > this.maxSize || this.#room !== undefined) return false;
    const datagram = buffer.slice(start, end);
    // As any port may do.
    buffer.fill(0xee, start - DATAGRAM_HEADROOM, start);
    this.carry(datagram);
    return true;
  }

  writable(): Promise<void> {
    return this.#room?.promise ?? Promise.resolve();
  }

  receive(handler: (payload: Uint8Array<ArrayBuffer>) => void): void {
    this.#handler = handler;
  }

  /** Hands a datagram to this end. */
  deliver(datagram: Uint8Array<ArrayBuffer>): void {
    this.#handler?.(datagram);
  }

  /** From now on nothing is taken, until {@linkcode drain}. */
  fill(): void {
    this.#room ??= Promise.withResolvers();
  }

  drain(): void {
    this.#room?.resolve();
    this.#room = undefined;
  }
}
