/**
 * Sealed records over a byte channel: cuts what is sent into records, joins what arrives in any pieces.
 */

import type { ByteChannel } from "../base/channel.ts";
import { DataplaneError } from "./errors.ts";
import type { FlowKeys } from "./flow_keys.ts";
import {
  MAX_RECORD_DATA,
  type OpenedRecord,
  RECORD_OVERHEAD,
  RECORD_TYPE,
  RecordOpener,
  RecordSealer,
  type RecordType,
} from "./record.ts";

/** What a {@linkcode RecordStream} is made of. */
export interface RecordStreamOptions {
  readonly channel: ByteChannel;
  readonly keys: FlowKeys;
  /** Bytes already read from `channel`; valid until its next read. */
  readonly buffered?: Uint8Array;
}

const NO_BYTES = new Uint8Array(0);
const SMALLEST_BUFFER = 1_024;

/** One end of a stream of sealed records. One `next()` and one `send…()` at a time. */
export class RecordStream {
  readonly #channel: ByteChannel;
  readonly #sealer: RecordSealer;
  readonly #opener: RecordOpener;
  #chunk: Uint8Array;
  #offset = 0;
  #sealed = NO_BYTES;

  constructor(options: RecordStreamOptions) {
    this.#channel = options.channel;
    this.#sealer = new RecordSealer(options.keys.send);
    this.#opener = new RecordOpener(options.keys.receive);
    this.#chunk = options.buffered ?? NO_BYTES;
  }

  /**
   * The next authentic record, valid until the following call, or `null` where the stream ends between two
   * records. Rejects with `ERR_RECORD_*`, with `ERR_FLOW_TRUNCATED` where it ends inside one, or as the channel.
   */
  async next(): Promise<OpenedRecord | null> {
    while (true) {
      while (this.#offset < this.#chunk.length) {
        this.#offset = this.#opener.push(this.#chunk, this.#offset);
        if (this.#opener.record !== undefined) return this.#opener.record;
      }
      const chunk = await this.#channel.read();
      if (chunk === null) {
        this.#chunk = NO_BYTES;
        if (this.#opener.isBetweenRecords) return null;
        throw new DataplaneError("ERR_FLOW_TRUNCATED", "Stream ended inside a record");
      }
      this.#chunk = chunk;
      this.#offset = 0;
    }
  }

  /** Sends one small record, in the same write as the bytes in clear before it. */
  send(
    type: RecordType,
    { payload = NO_BYTES, prefix = NO_BYTES }: {
      readonly payload?: Uint8Array;
      readonly prefix?: Uint8Array;
    } = {},
  ): Promise<void> {
    const bytes = new Uint8Array(prefix.length + RECORD_OVERHEAD + payload.length);
    bytes.set(prefix);
    this.#sealer.seal(type, payload, { target: bytes, offset: prefix.length });
    return this.#channel.write(bytes);
  }

  /** Sends bytes of the flow; they are sealed, and the buffer free, one record ahead of the channel. */
  async sendData(bytes: Uint8Array): Promise<void> {
    for (let offset = 0; offset < bytes.length; offset += MAX_RECORD_DATA) {
      const part = bytes.subarray(offset, offset + MAX_RECORD_DATA);
      const target = this.#buffer(part.length + RECORD_OVERHEAD);
      const end = this.#sealer.seal(RECORD_TYPE.DATA, part, { target, offset: 0 });
      await this.#channel.write(target.subarray(0, end));
    }
  }

  #buffer(length: number): Uint8Array {
    if (this.#sealed.length < length) {
      const size = 2 ** Math.ceil(Math.log2(Math.max(length, SMALLEST_BUFFER)));
      this.#sealed = new Uint8Array(Math.min(size, MAX_RECORD_DATA + RECORD_OVERHEAD));
    }
    return this.#sealed;
  }
}
