/**
 * An open sealed flow as a byte channel. Both ends agree on how it ended: cleanly (FIN), abruptly (RESET) or cut
 * by the path, which a clean end of the stream below cannot hide.
 */

import { type ByteChannel, ChannelResetError } from "../base/channel.ts";
import { DataplaneError } from "./errors.ts";
import { type OpenedRecord, RECORD_TYPE } from "./record.ts";
import type { RecordStream } from "./record_stream.ts";
import { decodeReset, encodeReset } from "./reset.ts";
import type { Session } from "./session.ts";

/** What a {@linkcode SealedChannel} is made of. */
export interface SealedChannelOptions {
  /** The stream through the relay; owned by the sealed channel from here on. */
  readonly channel: ByteChannel;
  /** The records on it, past OPEN and OPENED. */
  readonly records: RecordStream;
  /** The flow ends with it. */
  readonly session: Session;
}

/** How long an abort waits for its RESET to leave before it tears the stream down, in milliseconds. */
const RESET_LINGER = 1_000;

/** One end of an open sealed flow. */
export class SealedChannel implements ByteChannel {
  readonly #channel: ByteChannel;
  readonly #records: RecordStream;
  readonly #forgetSession: () => void;
  readonly #breakCallbacks = new Set<(error: Error) => void>();
  #writing: Promise<void> = Promise.resolve();
  #finSent: Promise<void> | undefined;
  #finDelivered = false;
  #finReceived = false;
  #failure: Error | undefined;

  constructor(options: SealedChannelOptions) {
    this.#channel = options.channel;
    this.#records = options.records;
    this.#forgetSession = options.session.onClose((reason) =>
      this.#break(new DataplaneError("ERR_SESSION_CLOSED", `Session ended: ${reason}`))
    );
  }

  async read(): Promise<Uint8Array<ArrayBuffer> | null> {
    if (this.#finReceived) return null;
    this.#throwIfBroken();
    try {
      const record = await this.#records.next();
      this.#throwIfBroken();
      if (record?.type === RECORD_TYPE.DATA) return record.data;
      this.#endReading(record);
      return null;
    } catch (error) {
      throw this.#break(error);
    }
  }

  async write(bytes: Uint8Array): Promise<void> {
    this.#throwIfBroken();
    if (this.#finSent !== undefined) throw new TypeError("Cannot write: the flow's direction has ended");
    this.#writing = this.#records.sendData(bytes);
    try {
      await this.#writing;
    } catch (error) {
      throw this.#break(error);
    }
  }

  closeWrite(): Promise<void> {
    this.#finSent ??= this.#sendFin();
    return this.#finSent;
  }

  abort(reason?: unknown): void {
    if (this.#isOver) return;
    const cause = reason === undefined ? undefined : { cause: reason };
    this.#fail(new ChannelResetError("Flow aborted by this end", cause));
    void this.#sendReset();
  }

  /**
   * Calls back once when the flow breaks otherwise than by our `abort()`: it tells of a RESET or a lost session
   * even when nobody reads any more. Returns the way to forget it.
   */
  onBreak(callback: (error: Error) => void): () => void {
    this.#breakCallbacks.add(callback);
    return () => void this.#breakCallbacks.delete(callback);
  }

  get #isOver(): boolean {
    return this.#failure !== undefined || (this.#finDelivered && this.#finReceived);
  }

  #throwIfBroken(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** The reader met something other than DATA. */
  #endReading(record: OpenedRecord | null): void {
    if (record === null) throw new DataplaneError("ERR_FLOW_TRUNCATED", "Stream ended before the flow did");
    if (record.type === RECORD_TYPE.RESET) throw resetByPeer(record);
    if (record.type !== RECORD_TYPE.FIN) {
      throw new DataplaneError("ERR_RECORD_ORDER", `Record type ${record.type} inside an open flow`);
    }
    this.#finReceived = true;
    if (this.#finDelivered) this.#endStream().catch((error) => this.#break(error));
    void this.#watchAfterFin();
  }

  /** Reads on after FIN: to the end of the stream below, or a RESET if the peer gives up our direction. */
  async #watchAfterFin(): Promise<void> {
    try {
      const record = await this.#records.next();
      if (record === null) return;
      if (record.type === RECORD_TYPE.RESET) throw resetByPeer(record);
      throw new DataplaneError("ERR_RECORD_AFTER_FIN", `Record type ${record.type} after the flow's end`);
    } catch (error) {
      if (!this.#isOver) this.#break(error);
      else this.#channel.abort(error);
    }
  }

  async #sendFin(): Promise<void> {
    this.#throwIfBroken();
    try {
      await this.#writing;
      this.#writing = this.#records.send(RECORD_TYPE.FIN);
      await this.#writing;
      this.#finDelivered = true;
      // The stream below stays open for a RESET as long as the peer may still send.
      if (this.#finReceived) await this.#endStream();
    } catch (error) {
      throw this.#break(error);
    }
  }

  async #endStream(): Promise<void> {
    this.#forgetSession();
    await this.#channel.closeWrite();
  }

  async #sendReset(): Promise<void> {
    const timer = setTimeout(() => this.#channel.abort(), RESET_LINGER);
    try {
      await this.#writing;
      await this.#records.send(RECORD_TYPE.RESET, { payload: encodeReset("reset") });
      await this.#channel.closeWrite();
    } catch {
      // The path is gone already, and with it every way to say so.
    } finally {
      clearTimeout(timer);
      this.#channel.abort(this.#failure);
    }
  }

  /** Ends the flow for an error that did not come from our `abort()`; returns the error to throw. */
  #break(error: unknown): Error {
    if (this.#failure !== undefined) return this.#failure;
    const failure = error instanceof Error ? error : new ChannelResetError("Stream broke", { cause: error });
    this.#fail(failure);
    this.#channel.abort(failure);
    for (const callback of this.#breakCallbacks) callback(failure);
    return failure;
  }

  #fail(error: Error): void {
    this.#failure = error;
    this.#forgetSession();
  }
}

function resetByPeer(record: OpenedRecord): ChannelResetError {
  return new ChannelResetError(`Flow reset by the other end: ${decodeReset(record)}`);
}
