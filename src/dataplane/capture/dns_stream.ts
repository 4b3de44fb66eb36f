/** DNS over TCP: each message behind its length in two bytes (RFC 7766 §8). One query after the other. */

import type { ByteChannel } from "../../base/channel.ts";
import { errorMessage } from "../../base/errors.ts";

/** Bytes of the longest query that is read: one question with its options is far shorter. */
const MAX_QUERY = 4_096;

/** Milliseconds without a whole query after which the connection ends (RFC 7766 §6.2.3). */
const IDLE_TIMEOUT = 10_000;

/** How to answer, and until when. */
export interface DnsStreamOptions {
  readonly answer: (query: Uint8Array<ArrayBuffer>) => Uint8Array | Promise<Uint8Array>;
  /** Ends the connection. */
  readonly signal: AbortSignal;
}

/** Answers a client until it ends, falls silent or sends what is no query. Never rejects. */
export async function serveDnsStream(channel: ByteChannel, options: DnsStreamOptions): Promise<void> {
  const { answer, signal } = options;
  const cut = () => channel.abort(signal.reason ?? new Error("No query came"));
  signal.addEventListener("abort", cut, { once: true });
  const queries = new QueryReader(channel);
  let timer = setTimeout(cut, IDLE_TIMEOUT);
  try {
    for (let query = await queries.next(); query !== undefined; query = await queries.next()) {
      clearTimeout(timer);
      const response = await answer(query);
      const framed = new Uint8Array(2 + response.length);
      framed[0] = response.length >> 8;
      framed[1] = response.length;
      framed.set(response, 2);
      timer = setTimeout(cut, IDLE_TIMEOUT);
      await channel.write(framed);
    }
    await channel.closeWrite();
  } catch (error) {
    channel.abort(new Error(`DNS client lost: ${errorMessage(error)}`, { cause: error }));
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", cut);
  }
}

class QueryReader {
  readonly #channel: ByteChannel;
  #held = new Uint8Array(0);

  constructor(channel: ByteChannel) {
    this.#channel = channel;
  }

  /** The next query; undefined where the client ended its side, or sent what is none. */
  async next(): Promise<Uint8Array<ArrayBuffer> | undefined> {
    for (;;) {
      const held = this.#held;
      if (held.length >= 2) {
        const length = (held[0]! << 8) | held[1]!;
        if (length > MAX_QUERY) {
          this.#channel.abort();
          return undefined;
        }
        if (held.length >= 2 + length) {
          this.#held = held.slice(2 + length);
          return held.slice(2, 2 + length);
        }
      }
      const chunk = await this.#channel.read();
      if (chunk === null) return undefined;
      const joined = new Uint8Array(held.length + chunk.length);
      joined.set(held);
      joined.set(chunk, held.length);
      this.#held = joined;
    }
  }
}
