/**
 * Two byte channels joined in memory, strict about the contract: bounded, views that turn to garbage at the next
 * read, one read and one write at a time, resets that reach the other end.
 */

import { type ByteChannel, ChannelResetError, HEADROOM } from "../../src/base/channel.ts";

/** How a {@linkcode channelPair} behaves. */
export interface ChannelPairOptions {
  /** Bytes that one direction holds before writes wait; default 256 KiB. */
  readonly capacity?: number;
  /** Most bytes that the next read returns; default: what is there. */
  readonly readSize?: () => number;
  /** An abort looks like a clean end to the far reader, as on a QUIC stream. */
  readonly abortLooksClean?: boolean;
}

/** Joins two channels: what one writes the other reads. */
export function channelPair(options: ChannelPairOptions = {}): [MemoryChannel, MemoryChannel] {
  const [forth, back] = [new Pipe(options), new Pipe(options)];
  return [new MemoryChannel(back, forth), new MemoryChannel(forth, back)];
}

/** One end of a {@linkcode channelPair}. */
export class MemoryChannel implements ByteChannel {
  readonly #incoming: Pipe;
  readonly #outgoing: Pipe;
  #isAborted = false;

  constructor(incoming: Pipe, outgoing: Pipe) {
    this.#incoming = incoming;
    this.#outgoing = outgoing;
  }

  /** True after `abort()`. */
  get isAborted(): boolean {
    return this.#isAborted;
  }

  read(): Promise<Uint8Array<ArrayBuffer> | null> {
    return this.#incoming.read();
  }

  write(bytes: Uint8Array): Promise<void> {
    return this.#outgoing.write(bytes);
  }

  closeWrite(): Promise<void> {
    this.#outgoing.end();
    return Promise.resolve();
  }

  abort(reason?: unknown): void {
    if (this.#isAborted) return;
    this.#isAborted = true;
    const cause = reason === undefined ? undefined : { cause: reason };
    this.#incoming.breakByReader(new ChannelResetError("Channel aborted", cause));
    this.#outgoing.breakByWriter(new ChannelResetError("Channel aborted", cause));
  }
}

const POISON = 0xdd;

class Pipe {
  readonly #capacity: number;
  readonly #readSize: () => number;
  readonly #abortLooksClean: boolean;
  #queue: Uint8Array[] = [];
  #queued = 0;
  #ended = false;
  #readError: Error | undefined;
  #writeError: Error | undefined;
  #lent: Uint8Array | undefined;
  #reading = false;
  #writing = false;
  #wakeReader = () => {};
  #wakeWriter = () => {};

  constructor(
    { capacity = 262_144, readSize = () => Infinity, abortLooksClean = false }: ChannelPairOptions,
  ) {
    this.#capacity = capacity;
    this.#readSize = readSize;
    this.#abortLooksClean = abortLooksClean;
  }

  async read(): Promise<Uint8Array<ArrayBuffer> | null> {
    if (this.#reading) throw new TypeError("Cannot read twice at a time");
    this.#reading = true;
    this.#lent?.fill(POISON);
    try {
      while (true) {
        if (this.#readError !== undefined) throw this.#readError;
        const chunk = this.#take();
        if (chunk !== undefined) return chunk;
        if (this.#ended) return null;
        await new Promise<void>((resolve) => this.#wakeReader = resolve);
      }
    } finally {
      this.#reading = false;
    }
  }

  async write(bytes: Uint8Array): Promise<void> {
    if (this.#writing) throw new TypeError("Cannot write twice at a time");
    if (this.#writeError !== undefined) throw this.#writeError;
    if (this.#ended) throw new TypeError("Cannot write after the end");
    if (bytes.length === 0) return;
    this.#writing = true;
    this.#queue.push(bytes.slice());
    this.#queued += bytes.length;
    this.#wakeReader();
    try {
      while (this.#queued > this.#capacity && this.#writeError === undefined) {
        await new Promise<void>((resolve) => this.#wakeWriter = resolve);
      }
      if (this.#writeError !== undefined) throw this.#writeError;
    } finally {
      this.#writing = false;
    }
  }

  end(): void {
    this.#ended = true;
    this.#wakeReader();
  }

  breakByReader(error: Error): void {
    this.#readError ??= error;
    this.#writeError ??= new ChannelResetError("The reader stopped reading");
    this.#wake();
  }

  breakByWriter(error: Error): void {
    this.#writeError ??= error;
    if (this.#ended) return;
    if (this.#abortLooksClean) this.#ended = true;
    else this.#readError ??= new ChannelResetError("The writer reset the stream");
    this.#wake();
  }

  #take(): Uint8Array<ArrayBuffer> | undefined {
    const first = this.#queue[0];
    if (first === undefined) return undefined;
    const length = Math.max(1, Math.min(first.length, this.#readSize()));
    if (length === first.length) this.#queue.shift();
    else this.#queue[0] = first.subarray(length);
    this.#queued -= length;
    if (this.#queued <= this.#capacity) this.#wakeWriter();
    const buffer = new Uint8Array(HEADROOM + length);
    buffer.set(first.subarray(0, length), HEADROOM);
    this.#lent = buffer;
    return buffer.subarray(HEADROOM);
  }

  #wake(): void {
    this.#wakeReader();
    this.#wakeWriter();
  }
}

/** Reads a channel to its clean end. */
export async function readAll(channel: ByteChannel): Promise<Uint8Array<ArrayBuffer>> {
  const parts: Uint8Array[] = [];
  let chunk: Uint8Array | null;
  while ((chunk = await channel.read()) !== null) parts.push(chunk.slice());
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let offset = 0;
  for (const part of parts) {
    all.set(part, offset);
    offset += part.length;
  }
  return all;
}
