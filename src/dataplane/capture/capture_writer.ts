/**
 * What capture writes to its device of its own accord: answers, and errors about packets. They leave as one batch at the
 * end of the burst they were made in.
 */

import { ipFromWords } from "../../base/ip.ts";
import { encodeTcpReset } from "../../wire/packet/answers.ts";
import { encodeIcmpError, type IcmpError, type LocatedPacket } from "../../wire/packet/icmp.ts";
import { DeviceWriter } from "../tunnel/device_writer.ts";
import type { PacketDevice } from "../tunnel/packet_device.ts";
import { TokenBucket } from "../tunnel/token_bucket.ts";
import type { CaptureRefusal } from "./capture_ports.ts";

/** ICMP errors into our own kernel: programs that knock at many doors need one for each. */
const ICMP_ERRORS = { burst: 1_000, perSecond: 1_000 } as const;

const REFUSALS: Readonly<Record<CaptureRefusal, IcmpError>> = {
  refused: { kind: "port_unreachable" },
  prohibited: { kind: "prohibited" },
  unreachable: { kind: "host_unreachable" },
};

/** How to write. */
export interface CaptureWriterOptions {
  readonly device: PacketDevice;
  /** Runs a function when the events that wait are handled. */
  readonly schedule: (run: () => void) => void;
  /** Milliseconds that never go back. */
  readonly now: () => number;
}

/** The writing side of a capture device. */
export class CaptureWriter {
  readonly #options: CaptureWriterOptions;
  readonly #writer: DeviceWriter;
  readonly #icmpErrors = new TokenBucket(ICMP_ERRORS);
  readonly #endBurst = () => this.flush();
  #inBurst = false;

  constructor(options: CaptureWriterOptions) {
    this.#options = options;
    this.#writer = new DeviceWriter(options.device);
  }

  /** Packets that the kernel refused. */
  get refused(): number {
    return this.#writer.refused;
  }

  /** What {@linkcode reserve} returns a position in. */
  get bytes(): Uint8Array<ArrayBuffer> {
    return this.#writer.bytes;
  }

  /** Makes room for a packet, which the caller writes at once. */
  reserve(length: number): number {
    const start = this.#writer.reserve(length);
    this.#burst();
    return start;
  }

  /** Copies a packet in. */
  add(packet: Uint8Array): void {
    this.#writer.add(packet);
    this.#burst();
  }

  /** Tells the sender of a TCP packet that there is no such connection. */
  reset(packet: LocatedPacket): void {
    const reset = encodeTcpReset(packet);
    if (reset !== undefined) this.add(reset);
  }

  /** Tells the sender of a packet why it gets no answer, in the name of the packet's destination. */
  refuse(packet: LocatedPacket, refusal: CaptureRefusal): void {
    // RFC 4443 §2.4: errors are limited in number.
    if (!this.#icmpErrors.take(this.#options.now())) return;
    const { version, dst0, dst1, dst2, dst3 } = packet.view;
    const from = ipFromWords(version, dst0, dst1, dst2, dst3);
    const message = encodeIcmpError(packet, REFUSALS[refusal], from);
    if (message !== undefined) this.add(message);
  }

  /** Hands over what was collected. */
  flush(): void {
    this.#inBurst = false;
    this.#writer.flush();
  }

  #burst(): void {
    if (this.#inBurst) return;
    this.#inBurst = true;
    this.#options.schedule(this.#endBurst);
  }
}
