/**
 * A byte channel whose first bytes were already read, while looking for a header in front of them.
 */

import { type ByteChannel, HEADROOM } from "../../base/channel.ts";

/** Returns a channel that yields `first` before what `channel` yields; `channel` itself when there is none. */
export function prefixedChannel(channel: ByteChannel, first: Uint8Array): ByteChannel {
  return first.length === 0 ? channel : new PrefixedChannel(channel, first);
}

class PrefixedChannel implements ByteChannel {
  readonly #channel: ByteChannel;
  #first: Uint8Array<ArrayBuffer> | undefined;

  constructor(channel: ByteChannel, first: Uint8Array) {
    this.#channel = channel;
    const room = new Uint8Array(HEADROOM + first.length);
    room.set(first, HEADROOM);
    this.#first = room.subarray(HEADROOM);
  }

  read(): Promise<Uint8Array<ArrayBuffer> | null> {
    if (this.#first === undefined) return this.#channel.read();
    const first = this.#first;
    this.#first = undefined;
    return Promise.resolve(first);
  }

  write(bytes: Uint8Array): Promise<void> {
    return this.#channel.write(bytes);
  }

  closeWrite(): Promise<void> {
    return this.#channel.closeWrite();
  }

  abort(reason?: unknown): void {
    this.#channel.abort(reason);
  }
}
