/**
 * The port through which a tunnel reaches the kernel's network stack: a TUN interface behind it, or a test.
 */

import type { PacketBatch } from "./packet_batch.ts";

/** A network interface whose packets we read and write. */
export interface PacketDevice {
  readonly name: string;
  /**
   * Clears `batch` and reads what waits into it, without blocking. Large segments arrive cut to packets, all
   * checksums complete. Returns how many there are; 0 when nothing waits.
   */
  read(batch: PacketBatch): number;
  /** Resolves with true when packets wait, with false when the device is closed. One call at a time. */
  readable(): Promise<boolean>;
  /**
   * Writes every packet of the batch, neighbours of one flow joined to large segments. Packets must be whole and
   * their checksums right. Returns how many the kernel refused.
   */
  write(batch: PacketBatch): number;
  /** Sets the interface's MTU in bytes. */
  setMtu(mtu: number): void;
  close(): void;
}
