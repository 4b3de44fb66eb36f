/**
 * Datagrams on a flow's stream, for those that no datagram of the path can carry: several to a sealed record, each
 * behind its length of two bytes. Those of one turn leave together. When too many wait, the newest are dropped.
 */

import { DataplaneError } from "../errors.ts";
import { MAX_RECORD_DATA, type RECORD_TYPE } from "../record.ts";
import type { RecordStream } from "../record_stream.ts";

/** Records that wait, each full or the last; one more is being written. */
const MAX_WAITING = 4;

const LENGTH_SIZE = 2;
const SMALLEST_BUFFER = 4_096;

/** A buffer larger than this is not kept for the next time. */
const LARGEST_SPARE = 16_384;

/** The sending side. */
export class DatagramRecords {
  readonly #records: RecordStream;
  readonly #onFailure: (error: unknown) => void;
  readonly #waiting: Batch[] = [];
  #spare: Uint8Array<ArrayBuffer> | undefined;
  #writing: Promise<void> | undefined;
  #isFull = false;
  #ended = false;

  constructor(records: RecordStream, options: { readonly onFailure: (error: unknown) => void }) {
    this.#records = records;
    this.#onFailure = options.onFailure;
  }

  /** Called when datagrams are taken again after some were dropped. */
  onRoom: () => void = () => {};

  /** Whether a datagram was dropped, and no record has left since. */
  get isFull(): boolean {
    return this.#isFull;
  }

  /** Copies a payload of at most `MAX_DATAGRAM` bytes; false when it was dropped. */
  send(payload: Uint8Array): boolean {
    if (this.#ended) return false;
    const size = LENGTH_SIZE + payload.length;
    const batch = this.#batchFor(size);
    if (batch === undefined) {
      this.#isFull = true;
      return false;
    }
    const { bytes, length } = batch;
    bytes[length] = payload.length >>> 8;
    bytes[length + 1] = payload.length;
    bytes.set(payload, length + LENGTH_SIZE);
    batch.length = length + size;
    this.#writing ??= this.#writeAll().catch((error) => this.#onFailure(error));
    return true;
  }

  /** Sends the flow's last record behind what is being written; what waits is dropped. */
  async end(type: typeof RECORD_TYPE.FIN | typeof RECORD_TYPE.RESET, payload?: Uint8Array): Promise<void> {
    this.#ended = true;
    this.#waiting.length = 0;
    await this.#writing;
    await this.#records.send(type, payload === undefined ? {} : { payload });
  }

  #batchFor(size: number): Batch | undefined {
    const last = this.#waiting.at(-1);
    if (last !== undefined && last.length + size <= MAX_RECORD_DATA) {
      last.bytes = grown(last, last.length + size);
      return last;
    }
    if (this.#waiting.length >= MAX_WAITING) return undefined;
    const bytes = this.#spare ?? new Uint8Array(0);
    this.#spare = undefined;
    const batch = { bytes: grown({ bytes, length: 0 }, size), length: 0 };
    this.#waiting.push(batch);
    return batch;
  }

  async #writeAll(): Promise<void> {
    // What else this turn sends leaves in the same record.
    await undefined;
    for (let batch = this.#waiting.shift(); batch !== undefined; batch = this.#waiting.shift()) {
      if (this.#isFull) {
        this.#isFull = false;
        this.onRoom();
      }
      await this.#records.sendData(batch.bytes.subarray(0, batch.length));
      if (batch.bytes.length <= LARGEST_SPARE) this.#spare = batch.bytes;
    }
    // In the turn of the last look: what is sent from now on starts anew.
    this.#writing = undefined;
  }
}

/** Hands each payload of a DATA record to `take`. */
export function readDatagrams(
  record: Uint8Array<ArrayBuffer>,
  take: (payload: Uint8Array<ArrayBuffer>) => void,
): void {
  let offset = 0;
  while (offset < record.length) {
    const start = offset + LENGTH_SIZE;
    const end = start + (record[offset]! << 8 | record[offset + 1]!);
    if (start > record.length || end > record.length) {
      throw new DataplaneError("ERR_RECORD_MALFORMED", "Record ends inside a datagram");
    }
    take(record.subarray(start, end));
    offset = end;
  }
}

interface Batch {
  bytes: Uint8Array<ArrayBuffer>;
  length: number;
}

function grown({ bytes, length }: Batch, needed: number): Uint8Array<ArrayBuffer> {
  if (bytes.length >= needed) return bytes;
  const size = Math.max(SMALLEST_BUFFER, 2 ** Math.ceil(Math.log2(needed)));
  const larger = new Uint8Array(Math.min(size, MAX_RECORD_DATA));
  larger.set(bytes.subarray(0, length));
  return larger;
}
