/**
 * Many packets in one reused buffer, each with room in front, so that a batch crosses from the device to the
 * transport and back without a copy or an object per packet.
 */

import { DATAGRAM_HEADROOM } from "../carrier.ts";

/** Bytes free in front of every packet of a batch, for its context ID and what the datagram port needs. */
export const PACKET_HEADROOM = DATAGRAM_HEADROOM + 8;

/** A batch of packets; `starts[i]` to `ends[i]` of `bytes` is packet `i`. */
export class PacketBatch {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly starts: Uint32Array<ArrayBuffer>;
  readonly ends: Uint32Array<ArrayBuffer>;
  /** {@linkcode PACKET_HEADROOM}, for who fills the batch without knowing this module. */
  readonly headroom = PACKET_HEADROOM;
  count = 0;

  constructor({ maxPackets, maxBytes }: { readonly maxPackets: number; readonly maxBytes: number }) {
    this.bytes = new Uint8Array(maxBytes);
    this.starts = new Uint32Array(maxPackets);
    this.ends = new Uint32Array(maxPackets);
  }

  /** Copies a packet in; false when there is no room left. */
  add(packet: Uint8Array): boolean {
    const start = this.reserve(packet.length);
    if (start < 0) return false;
    this.bytes.set(packet, start);
    return true;
  }

  /** Makes room for a packet that the caller writes; returns where it begins, or -1 when there is no room left. */
  reserve(length: number): number {
    const start = (this.count === 0 ? 0 : this.ends[this.count - 1]!) + PACKET_HEADROOM;
    const end = start + length;
    if (this.count === this.starts.length || end > this.bytes.length) return -1;
    this.starts[this.count] = start;
    this.ends[this.count] = end;
    this.count++;
    return start;
  }

  clear(): void {
    this.count = 0;
  }
}
