/** A device and links in memory, and a burst that ends when the test says so. */

import { PACKET_HEADROOM, type PacketBatch } from "../../../src/dataplane/tunnel/packet_batch.ts";
import type { PacketDevice } from "../../../src/dataplane/tunnel/packet_device.ts";
import type { TunnelLink } from "../../../src/dataplane/tunnel/tunnel_link.ts";

/** A device: what the kernel would have sent is put in, what it would have got is taken out. */
export class FakeDevice implements PacketDevice {
  readonly name = "fake0";
  /** What was written, in order. */
  readonly written: Uint8Array<ArrayBuffer>[] = [];
  /** Sizes of the writes. */
  readonly writes: number[] = [];
  readonly mtus: number[] = [];
  reads = 0;
  /** Thrown by the next calls. */
  fault: Error | undefined;
  /** What the next writes say the kernel refused. */
  refuses = 0;
  #waiting: Uint8Array[] = [];
  #closed = false;
  #wake: ((open: boolean) => void) | undefined;

  /** Packets that wait to be read. */
  get waiting(): number {
    return this.#waiting.length;
  }

  /** Packets arrive from the kernel. */
  arrive(...packets: readonly Uint8Array[]): void {
    this.#waiting.push(...packets);
    this.#wake?.(true);
    this.#wake = undefined;
  }

  read(batch: PacketBatch): number {
    if (this.fault !== undefined) throw this.fault;
    this.reads++;
    batch.clear();
    while (this.#waiting.length > 0 && batch.add(this.#waiting[0]!)) this.#waiting.shift();
    return batch.count;
  }

  readable(): Promise<boolean> {
    if (this.#closed) return Promise.resolve(false);
    if (this.#waiting.length > 0) return Promise.resolve(true);
    return new Promise((resolve) => this.#wake = resolve);
  }

  write(batch: PacketBatch): number {
    if (this.fault !== undefined) throw this.fault;
    this.writes.push(batch.count);
    for (let i = 0; i < batch.count; i++) {
      this.written.push(batch.bytes.slice(batch.starts[i], batch.ends[i]));
    }
    return this.refuses;
  }

  setMtu(mtu: number): void {
    if (this.fault !== undefined) throw this.fault;
    this.mtus.push(mtu);
  }

  close(): void {
    this.#closed = true;
    this.#wake?.(false);
  }
}

/** A link that takes as many packets as the test grants, and writes into the headroom as a real one does. */
export class FakeLink implements TunnelLink {
  mtu = 1_400;
  /** Packets it still takes. */
  room = Infinity;
  readonly sent: Uint8Array<ArrayBuffer>[] = [];
  /** Of those, what was to arrive in order. */
  inOrder = 0;
  sends = 0;
  asked = 0;
  fault: Error | undefined;
  /** Says that it is writable and takes nothing: a link that has ended. */
  hasEnded = false;
  #wake: (() => void)[] = [];

  send(buffer: Uint8Array<ArrayBuffer>, start: number, end: number): boolean {
    this.sends++;
    if (this.fault !== undefined) throw this.fault;
    if (start < PACKET_HEADROOM) throw new RangeError(`Cannot frame a packet at ${start}`);
    buffer.fill(0xee, start - PACKET_HEADROOM, start);
    if (this.room <= 0 || this.hasEnded) return false;
    this.room--;
    this.sent.push(buffer.slice(start, end));
    return true;
  }

  sendInOrder(buffer: Uint8Array<ArrayBuffer>, start: number, end: number): boolean {
    const taken = this.send(buffer, start, end);
    if (taken) this.inOrder++;
    return taken;
  }

  writable(): Promise<void> {
    this.asked++;
    if (this.fault !== undefined) throw this.fault;
    if (this.room > 0 || this.hasEnded) return Promise.resolve();
    return new Promise((resolve) => this.#wake.push(resolve));
  }

  /** Takes `count` packets more. */
  grant(count: number): void {
    this.room += count;
    for (const wake of this.#wake.splice(0)) wake();
  }
}

/** Stands for the end of a burst: what is scheduled runs when the test says so. */
export class FakeTurns {
  #waiting: (() => void)[] = [];

  readonly schedule = (run: () => void): void => {
    this.#waiting.push(run);
  };

  /** Turns that somebody waits for. */
  get waiting(): number {
    return this.#waiting.length;
  }

  /** Ends the burst, and all that follow from it, until nothing is scheduled or `limit` is reached. */
  async run(limit = 50): Promise<void> {
    await settled();
    for (let i = 0; i < limit && this.#waiting.length > 0; i++) {
      for (const run of this.#waiting.splice(0)) run();
      await settled();
    }
  }
}

/** Lets promises that are settled already be heard. */
export async function settled(): Promise<void> {
  for (let i = 0; i < 20; i++) await Promise.resolve();
}
