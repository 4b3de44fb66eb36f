/**
 * An open flow as its local client sees it: tells when the client has let go of it, and what passes.
 */

import type { ByteChannel } from "../../base/channel.ts";
import type { SealedChannel } from "../../dataplane/sealed_channel.ts";
import type { WatchSigns } from "./flow_watch.ts";

/** Calls `forget` when the flow was aborted or both its directions have ended. */
export class TrackedChannel implements ByteChannel {
  readonly #channel: SealedChannel;
  readonly #signs: WatchSigns;
  readonly #forget: () => void;
  #openDirections = 2;

  constructor(channel: SealedChannel, watch: { readonly signs: WatchSigns; readonly forget: () => void }) {
    this.#channel = channel;
    this.#signs = watch.signs;
    this.#forget = watch.forget;
  }

  /** See {@linkcode SealedChannel.onBreak}. */
  onBreak(callback: (error: Error) => void): () => void {
    return this.#channel.onBreak(callback);
  }

  read(): Promise<Uint8Array<ArrayBuffer> | null> {
    const reading = this.#channel.read();
    reading.then((bytes) => {
      this.#signs.heard();
      if (bytes === null) this.#ended();
    }, () => this.#end());
    return reading;
  }

  write(bytes: Uint8Array): Promise<void> {
    this.#signs.spoke();
    return this.#channel.write(bytes);
  }

  async closeWrite(): Promise<void> {
    await this.#channel.closeWrite();
    this.#ended();
  }

  abort(reason?: unknown): void {
    this.#channel.abort(reason);
    this.#end();
  }

  #ended(): void {
    if (--this.#openDirections === 0) this.#end();
  }

  #end(): void {
    this.#signs.leave();
    this.#forget();
  }
}
