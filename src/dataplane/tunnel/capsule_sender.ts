/**
 * Writes the capsules of a tunnel's stream: lists, which always leave, and packets, which are dropped when too many wait.
 * Packets of one turn leave in one write.
 */

import { type ByteChannel, ChannelResetError } from "../../base/channel.ts";
import { allocateWithHeadroom } from "../../base/headroom.ts";
import { varintSize, writeVarint } from "../../wire/varint.ts";

/** Bytes of packets that wait while others are being written; as many again are under way. */
export const MAX_WAITING_BYTES = 131_072;

/** Lists that wait: more than an owner has to tell at once, at 139 KB each at most. */
export const MAX_WAITING_CAPSULES = 16;

/** First size of the buffers for packets: a tunnel whose packets fit into datagrams needs little. */
const FIRST_BUFFER_SIZE = 16_384;

/** What is in front of each packet in its capsule. */
export interface PacketFraming {
  readonly type: number;
  /** Written between the capsule's header and the packet. */
  readonly prefix: readonly number[];
}

/** A list waiting to be written, and who waits for it. */
interface WaitingCapsule {
  readonly bytes: Uint8Array;
  readonly done: PromiseWithResolvers<void>;
}

/** The sending side of a tunnel's stream. */
export class CapsuleSender {
  readonly #body: ByteChannel;
  readonly #framing: PacketFraming;
  readonly #onFailure: (error: unknown) => void;
  readonly #capsules: WaitingCapsule[] = [];
  /** Packets wait in one buffer while the other one is being written. */
  #waiting: Uint8Array<ArrayBuffer> | undefined;
  #waitingLength = 0;
  #spare: Uint8Array<ArrayBuffer> | undefined;
  #writing: Promise<void> | undefined;
  #room: PromiseWithResolvers<void> | undefined;
  #ended = false;
  #failure: { readonly error: unknown } | undefined;

  constructor(
    body: ByteChannel,
    options: { readonly framing: PacketFraming; readonly onFailure: (error: unknown) => void },
  ) {
    this.#body = body;
    this.#framing = options.framing;
    this.#onFailure = options.onFailure;
  }

  /** Copies the packet `bytes[start, end)` into a capsule; false when it was dropped. */
  sendPacket(bytes: Uint8Array, start: number, end: number): boolean {
    if (this.#ended) return false;
    const { type, prefix } = this.#framing;
    const length = prefix.length + end - start;
    const size = varintSize(type) + varintSize(length) + length;
    const buffer = this.#makeRoom(size);
    if (buffer === undefined) {
      this.#room ??= Promise.withResolvers();
      return false;
    }
    let offset = writeVarint(buffer, this.#waitingLength, type);
    offset = writeVarint(buffer, offset, length);
    for (let i = 0; i < prefix.length; i++) buffer[offset++] = prefix[i]!;
    buffer.set(bytes.subarray(start, end), offset);
    this.#waitingLength += size;
    this.#start();
    return true;
  }

  /** Whether a packet was dropped, and none that waited then has left. */
  get isFull(): boolean {
    return this.#room !== undefined;
  }

  /** Resolves when packets are taken again, or never more; at once when none was dropped. */
  room(): Promise<void> {
    return this.#room?.promise ?? Promise.resolve();
  }

  /** Writes a capsule ahead of the packets that wait; rejects when the stream has ended, or ends for it. */
  async send(capsule: Uint8Array): Promise<void> {
    if (this.#failure !== undefined) throw this.#failure.error;
    if (this.#ended) throw new TypeError("Cannot send capsule: the tunnel's stream has ended");
    // A peer that asks for addresses again and again, and reads no answer.
    if (this.#capsules.length === MAX_WAITING_CAPSULES) {
      const error = new ChannelResetError("Peer does not read the tunnel's stream");
      this.#fail(error);
      throw error;
    }
    const done = Promise.withResolvers<void>();
    this.#capsules.push({ bytes: capsule, done });
    this.#start();
    await done.promise;
  }

  /** Ends our direction behind the capsules that wait; packets that wait are dropped. Idempotent. */
  async close(): Promise<void> {
    this.#end();
    await this.#writing;
    if (this.#failure === undefined) await this.#body.closeWrite();
  }

  /** Gives up what waits. Idempotent. */
  abort(error: unknown): void {
    this.#end();
    this.#failure ??= { error };
    for (const { done } of this.#capsules.splice(0)) done.reject(error);
  }

  #fail(error: unknown): void {
    this.abort(error);
    this.#onFailure(error);
  }

  #end(): void {
    this.#ended = true;
    this.#waitingLength = 0;
    this.#wake();
  }

  #wake(): void {
    this.#room?.resolve();
    this.#room = undefined;
  }

  #start(): void {
    this.#writing ??= this.#writeAll().catch((error) => {
      this.abort(error);
      this.#onFailure(error);
    });
  }

  async #writeAll(): Promise<void> {
    // What else this turn sends leaves in the same write.
    await undefined;
    while (this.#capsules.length > 0 || this.#waitingLength > 0) {
      const capsule = this.#capsules[0];
      if (capsule === undefined) {
        await this.#writePackets();
      } else {
        await this.#body.write(capsule.bytes);
        this.#capsules.shift()?.done.resolve();
      }
    }
    // In the turn of the last look: what is sent from now on starts anew.
    this.#writing = undefined;
  }

  async #writePackets(): Promise<void> {
    const buffer = this.#waiting!;
    const length = this.#waitingLength;
    this.#waiting = this.#spare;
    this.#waitingLength = 0;
    this.#spare = undefined;
    this.#wake();
    await this.#body.write(buffer.subarray(0, length));
    this.#spare = buffer;
  }

  /** Returns a buffer with `size` bytes free behind those that wait, unless that would be too many. */
  #makeRoom(size: number): Uint8Array<ArrayBuffer> | undefined {
    const needed = this.#waitingLength + size;
    if (needed > MAX_WAITING_BYTES) return undefined;
    const waiting = this.#waiting;
    if (waiting !== undefined && needed <= waiting.length) return waiting;
    let length = waiting?.length ?? FIRST_BUFFER_SIZE;
    while (length < needed) length *= 2;
    const buffer = allocateWithHeadroom(length);
    if (waiting !== undefined) buffer.set(waiting.subarray(0, this.#waitingLength));
    this.#waiting = buffer;
    return buffer;
  }
}
