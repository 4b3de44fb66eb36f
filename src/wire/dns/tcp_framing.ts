/**
 * Messages in a stream, each behind its length in two bytes (RFC 1035 §4.2.2).
 */
import { ByteQueue } from "../byte_queue.ts";
import { DNS_TCP_SIZE } from "./codes.ts";

const PREFIX = 2;

/** One message with its length in front, in one piece (RFC 7766 §8). */
export function frameDnsMessage(message: Uint8Array): Uint8Array<ArrayBuffer> {
  if (message.length > DNS_TCP_SIZE) throw new RangeError(`Cannot frame ${message.length} bytes of DNS`);
  const framed = new Uint8Array(PREFIX + message.length);
  framed[0] = message.length >> 8;
  framed[1] = message.length;
  framed.set(message, PREFIX);
  return framed;
}

/** Takes a stream's messages apart: `push()` a chunk, then `next()` until it returns `undefined`. */
export class DnsMessageReader {
  readonly #queue = new ByteQueue();

  /** Appends a chunk. */
  push(bytes: Uint8Array): void {
    this.#queue.push(bytes);
  }

  /** The next whole message; `undefined` when more bytes are needed. */
  next(): Uint8Array<ArrayBuffer> | undefined {
    const { bytes } = this.#queue;
    if (bytes.length < PREFIX) return undefined;
    const end = PREFIX + ((bytes[0]! << 8) | bytes[1]!);
    // A copy: whoever answers may take its time, and more may come meanwhile.
    return bytes.length < end ? undefined : this.#queue.take(end).slice(PREFIX);
  }
}
