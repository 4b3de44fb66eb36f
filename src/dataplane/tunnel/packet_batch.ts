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
    const start = (this.count === 0 ? 0 : this.ends[this.count - 1]!) + PACKET_HEADROOM;
    const end = start + packet.length;
    if (this.count === this.starts.length || end > this.bytes.length) return false;
    this.bytes.set(packet, start);
    this.starts[this.count] = start;
    this.ends[this.count] = end;
    this.count++;
    return true;
  }

  clear(): void {
    this.count = 0;
  }
}
