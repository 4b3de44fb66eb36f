/**
 * Collects packets for a device and writes them as one batch: when it is full, and when the owner says that the burst
 * they came in is over.
 */

import { PacketBatch } from "./packet_batch.ts";
import type { PacketDevice } from "./packet_device.ts";

/** Packets of one write: what a burst brings, and enough of one flow for the device to join to large segments. */
const MAX_PACKETS = 256;

/** Bytes of one write: {@linkcode MAX_PACKETS} of an Ethernet's size, and any single packet there can be. */
const MAX_BYTES = MAX_PACKETS * 1_536;

/** The writing side of a device. */
export class DeviceWriter {
  readonly #device: PacketDevice;
  readonly #batch = new PacketBatch({ maxPackets: MAX_PACKETS, maxBytes: MAX_BYTES });
  #refused = 0;

  constructor(device: PacketDevice) {
    this.#device = device;
  }

  /** Packets that the kernel refused, all in all. */
  get refused(): number {
    return this.#refused;
  }

  /** Copies a packet of at most 65,535 bytes in. */
  add(packet: Uint8Array): void {
    if (this.#batch.add(packet)) return;
    this.flush();
    this.#batch.add(packet);
  }

  /** What {@linkcode reserve} returns a position in. */
  get bytes(): Uint8Array<ArrayBuffer> {
    return this.#batch.bytes;
  }

  /** Makes room for a packet of at most 65,535 bytes, which the caller writes to {@linkcode bytes} before anything else. */
  reserve(length: number): number {
    const start = this.#batch.reserve(length);
    if (start >= 0) return start;
    this.flush();
    return this.#batch.reserve(length);
  }

  /** Hands over what was collected. */
  flush(): void {
    const { count } = this.#batch;
    if (count === 0) return;
    try {
      this.#refused += this.#device.write(this.#batch);
    } catch {
      // A device that fails or was closed ends the owner's reading loop, which tells why; peers must not end with it.
      this.#refused += count;
    }
    this.#batch.clear();
  }
}
