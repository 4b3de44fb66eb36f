/**
 * An open sealed flow of datagrams: they cross as sealed datagrams where they fit, else in records on the flow's stream,
 * which also tells both ends how the flow ends.
 */

import { type ByteChannel, ChannelResetError } from "../../base/channel.ts";
import type { DatagramPort } from "../carrier.ts";
import { DataplaneError, FlowRefusedError, type ResetReason } from "../errors.ts";
import type { FlowParts } from "../flow_opening.ts";
import { type OpenedRecord, RECORD_TYPE } from "../record.ts";
import type { RecordStream } from "../record_stream.ts";
import { decodeReset, encodeReset } from "../reset.ts";
import { type DatagramFlow, MAX_DATAGRAM } from "./datagram_flow.ts";
import { DatagramRecords, readDatagrams } from "./datagram_records.ts";
import {
  type DatagramFault,
  DatagramOpener,
  DatagramSealer,
  SEALED_DATAGRAM_HEADROOM,
  SEALED_DATAGRAM_OVERHEAD,
} from "./sealed_datagram.ts";

/** How long the last record may take to leave before the stream is torn down, in milliseconds. */
const END_LINGER = 1_000;

/** One end of an open sealed flow of datagrams. */
export class SealedDatagramFlow implements DatagramFlow {
  /** Payloads that were handed over for sending, and that came. */
  readonly counters = { sent: 0, received: 0 };
  /** Datagrams of the path that were dropped unopened. */
  readonly faults: Record<DatagramFault, number> = { malformed: 0, replayed: 0, forged: 0 };
  readonly closed: Promise<Error | undefined>;
  readonly #channel: ByteChannel;
  readonly #datagrams: DatagramPort;
  readonly #records: RecordStream;
  readonly #sender: DatagramRecords;
  readonly #sealer: DatagramSealer;
  readonly #opener: DatagramOpener;
  readonly #forgetSession: (() => void) | undefined;
  readonly #resolveClosed: (error: Error | undefined) => void;
  #handler: ((payload: Uint8Array<ArrayBuffer>) => void) | undefined;
  #room: PromiseWithResolvers<void> | undefined;
  #ended = false;

  /**
   * `datagrams` carries bare sealed datagrams; it may overwrite {@linkcode SEALED_DATAGRAM_HEADROOM} bytes in front of
   * each, which is more than other senders grant.
   */
  constructor(parts: FlowParts, datagrams: DatagramPort) {
    const { channel, records, session, flowId } = parts;
    const keys = session.datagramKeys(flowId);
    this.#channel = channel;
    this.#datagrams = datagrams;
    this.#records = records;
    this.#sender = new DatagramRecords(records, { onFailure: (error) => this.#broken(error) });
    this.#sender.onRoom = () => this.#wake();
    this.#sealer = new DatagramSealer(keys.send);
    this.#opener = new DatagramOpener(keys.receive);
    ({ promise: this.closed, resolve: this.#resolveClosed } = Promise.withResolvers<Error | undefined>());
    datagrams.receive((sealed) => this.#open(sealed));
    void this.#read();
    this.#forgetSession = session.onClose((reason) =>
      this.#broken(new DataplaneError("ERR_SESSION_CLOSED", `Session ended: ${reason}`))
    );
  }

  get maxPayload(): number {
    return Math.max(0, this.#datagrams.maxSize - SEALED_DATAGRAM_OVERHEAD);
  }

  send(bytes: Uint8Array<ArrayBuffer>, start: number, end: number): boolean {
    if (this.#ended) return false;
    const length = end - start;
    if (length > MAX_DATAGRAM) {
      throw new RangeError(`Cannot send datagram: ${length} bytes, at most ${MAX_DATAGRAM}`);
    }
    const payload = bytes.subarray(start, end);
    const isSent = length + SEALED_DATAGRAM_OVERHEAD <= this.#datagrams.maxSize
      ? this.#sendSealed(payload)
      : this.#sender.send(payload);
    if (isSent) this.counters.sent++;
    return isSent;
  }

  writable(): Promise<void> {
    if (this.#ended) return Promise.resolve();
    if (this.#room !== undefined) return this.#room.promise;
    const isStreamFull = this.#sender.isFull;
    if (!isStreamFull && this.#datagrams.maxSize < SEALED_DATAGRAM_OVERHEAD) return Promise.resolve();
    // One promise for all who wait: the flow's end wakes them too.
    this.#room = Promise.withResolvers<void>();
    const { promise } = this.#room;
    if (!isStreamFull) this.#datagrams.writable().then(() => this.#wake());
    return promise;
  }

  receive(handler: (payload: Uint8Array<ArrayBuffer>) => void): void {
    this.#handler = handler;
  }

  /** Ends the flow for both ends; a `FlowRefusedError` tells the other end its reason. Idempotent. */
  close(reason?: unknown): void {
    this.#close(reason);
    this.#end(undefined);
  }

  /** As {@linkcode close}, but {@linkcode closed} tells our own owner why; a flow that was idle ends cleanly. */
  fail(error: Error): void {
    const isIdle = error instanceof DataplaneError && error.code === "ERR_FLOW_IDLE";
    this.#close(isIdle ? undefined : error);
    this.#end(error);
  }

  #sendSealed(payload: Uint8Array): boolean {
    try {
      const end = this.#sealer.seal(payload);
      return this.#datagrams.send(this.#sealer.buffer, SEALED_DATAGRAM_HEADROOM, end);
    } catch (error) {
      this.fail(asError(error));
      return false;
    }
  }

  #open(sealed: Uint8Array<ArrayBuffer>): void {
    if (this.#ended) return;
    const payload = this.#opener.open(sealed);
    if (typeof payload === "string") this.faults[payload]++;
    else this.#deliver(payload);
  }

  #deliver(payload: Uint8Array<ArrayBuffer>): void {
    if (this.#ended) return;
    this.counters.received++;
    this.#handler?.(payload);
  }

  async #read(): Promise<void> {
    const take = (payload: Uint8Array<ArrayBuffer>) => this.#deliver(payload);
    try {
      let record = await this.#records.next();
      while (record?.type === RECORD_TYPE.DATA) {
        readDatagrams(record.data, take);
        record = await this.#records.next();
      }
      this.#endedByPeer(record);
    } catch (error) {
      this.#broken(error);
    }
  }

  /** Something other than DATA came, or the end of the stream. */
  #endedByPeer(record: OpenedRecord | null): void {
    if (this.#ended) return;
    if (record === null) throw new DataplaneError("ERR_FLOW_TRUNCATED", "Stream ended before the flow did");
    switch (record.type) {
      case RECORD_TYPE.FIN:
        this.#close();
        return this.#end(undefined);
      case RECORD_TYPE.RESET:
        throw new FlowRefusedError(decodeReset(record), "Flow reset by the other end");
      default:
        throw new DataplaneError("ERR_RECORD_ORDER", `Record type ${record.type} inside an open flow`);
    }
  }

  /** The path or the other end failed: there is nobody to tell but our owner. */
  #broken(error: unknown): void {
    if (this.#ended) return;
    this.#end(asError(error));
    this.#channel.abort(error);
  }

  #end(error: Error | undefined): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#forgetSession?.();
    this.#wake();
    this.#resolveClosed(error);
  }

  /** Tells the other end, and gives the stream up. */
  #close(reason?: unknown): void {
    if (!this.#ended) void this.#sayGoodbye(reason);
  }

  async #sayGoodbye(reason: unknown): Promise<void> {
    const timer = setTimeout(() => this.#channel.abort(), END_LINGER);
    try {
      if (reason === undefined) await this.#sender.end(RECORD_TYPE.FIN);
      else await this.#sender.end(RECORD_TYPE.RESET, encodeReset(resetReason(reason)));
      await this.#channel.closeWrite();
    } catch {
      // The path is gone already, and with it every way to say so.
    } finally {
      clearTimeout(timer);
      this.#channel.abort(reason);
    }
  }

  #wake(): void {
    this.#room?.resolve();
    this.#room = undefined;
  }
}

function resetReason(reason: unknown): ResetReason {
  return reason instanceof FlowRefusedError ? reason.reason : "reset";
}

function asError(error: unknown): Error {
  return error instanceof Error ? error : new ChannelResetError("Flow broke", { cause: error });
}
