/**
 * Capture: reads what local programs send to the services' virtual addresses from a network interface, and makes flows of
 * it: TCP through our own kernel, UDP and echo requests as datagrams.
 */

import type { ByteChannel } from "../../base/channel.ts";
import { errorMessage } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { LocatedPacket } from "../../wire/packet/icmp.ts";
import {
  newPacketView,
  type PacketView,
  PROTOCOL_ICMP,
  PROTOCOL_ICMPV6,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
  readPacket,
} from "../../wire/packet/packet_view.ts";
import type { AddressSet } from "../tunnel/address_set.ts";
import { PacketBatch } from "../tunnel/packet_batch.ts";
import type { PacketDevice } from "../tunnel/packet_device.ts";
import type { CaptureAddresses } from "./capture_addresses.ts";
import type { CapturePorts } from "./capture_ports.ts";
import { CaptureWriter } from "./capture_writer.ts";
import { DatagramCapture, type Taken } from "./datagram_capture.ts";
import { TcpCapture } from "./tcp_capture.ts";

/** Packets of one read. */
const READ_PACKETS = 256;
/** Bytes of one read: eight of the largest packets, several hundred of an Ethernet's. */
const READ_BYTES = 8 * 65_536;

/** Milliseconds that all wait for a flow of datagrams that is full. */
const PATIENCE = 5;

const ECHO_REQUEST = 8;
const ECHO_REQUEST6 = 128;

/** What capture is made of. */
export interface CaptureOptions {
  readonly device: PacketDevice;
  readonly addresses: CaptureAddresses;
  readonly ports: CapturePorts;
  /** Ports of the listeners at the interface's own addresses; sockets they accept go to {@linkcode Capture.accept}. */
  readonly listeners: Readonly<Partial<Record<4 | 6, number>>>;
  /** Runs a function when the events that wait are handled: the end of a burst. */
  readonly schedule: (run: () => void) => void;
  /** Milliseconds that never go back. */
  readonly now: () => number;
  readonly logger: Logger;
}

/** One interface's capture. */
export class Capture {
  readonly #options: CaptureOptions;
  readonly #writer: CaptureWriter;
  readonly #tcp: TcpCapture;
  readonly #datagrams: DatagramCapture;
  /** The one packet that is looked at: an object for each would be work for the collector. */
  readonly #packet: CurrentPacket = { bytes: new Uint8Array(0), start: 0, end: 0, view: newPacketView() };
  #sources: AddressSet | "any" | undefined;
  #dropped = 0;
  #closed = false;

  constructor(options: CaptureOptions) {
    this.#options = options;
    const { device, schedule, now, ports, addresses, listeners, logger } = options;
    this.#writer = new CaptureWriter({ device, schedule, now });
    const mayCapture = ({ view }: LocatedPacket) =>
      this.#sources === "any" || (this.#sources?.hasSource(view) ?? false);
    const common = { ports, addresses, writer: this.#writer, mayCapture, now };
    this.#tcp = new TcpCapture({ ...common, listeners, logger });
    this.#datagrams = new DatagramCapture(common);
  }

  /** What is being carried, and what was not. */
  get counts(): CaptureCounts {
    return {
      tcp: this.#tcp.size,
      datagrams: this.#datagrams.size,
      dropped: this.#dropped,
      refused: this.#writer.refused,
    };
  }

  /** Who may begin flows from now on: this machine's addresses, or whoever has his packets routed here. */
  setSources(sources: AddressSet | "any"): void {
    this.#sources = sources;
  }

  /** Takes a socket that a listener accepted; `from` is its peer. */
  accept(channel: ByteChannel, from: { readonly version: 4 | 6; readonly port: number }): void {
    this.#tcp.accept(channel, from);
  }

  /** Serves the device until it is closed; rejects when it fails. */
  async run(): Promise<void> {
    const { device, schedule } = this.#options;
    const batch = new PacketBatch({ maxPackets: READ_PACKETS, maxBytes: READ_BYTES });
    while (!this.#closed) {
      if (device.read(batch) === 0) {
        if (!await device.readable()) return;
        continue;
      }
      await this.#handle(batch);
      // After each read the event loop gets a turn, for sockets and QUIC to do their part.
      await new Promise<void>((resolve) => schedule(resolve));
    }
  }

  /** Ends what has waited too long. Call it about once a second. */
  sweep(): void {
    this.#tcp.sweep();
    this.#datagrams.sweep();
  }

  /** Ends every flow, so that programs hear of it, and begins none any more: who asks is refused. */
  async end(reason?: unknown): Promise<void> {
    this.#datagrams.close();
    await this.#tcp.close(reason);
    const { device } = this.#options;
    const batch = new PacketBatch({ maxPackets: READ_PACKETS, maxBytes: READ_BYTES });
    try {
      while (device.read(batch) > 0) await this.#handle(batch);
      this.#writer.flush();
    } catch (error) {
      // A device that is gone leads to nobody who could hear.
      this.#options.logger.debug("capture_device_gone", { detail: errorMessage(error) });
    }
  }

  /** Closes the device. */
  close(): void {
    this.#closed = true;
    this.#options.device.close();
  }

  /** Handles a whole batch; what is written back of it moves to its front. */
  async #handle(batch: PacketBatch): Promise<void> {
    const { device } = this.#options;
    const { bytes, starts, ends, count } = batch;
    let kept = 0;
    const writeBack = () => {
      batch.count = kept;
      if (kept > 0) device.write(batch);
      kept = 0;
      this.#writer.flush();
    };
    for (let i = 0; i < count; i++) {
      const [start, end] = [starts[i]!, ends[i]!];
      let outcome = this.#take(bytes, start, end);
      if (outcome === "full") {
        // Others must not wait for what is done already. Their packets lie in front of this one.
        writeBack();
        if (await this.#datagrams.wait(this.#packet, { patience: PATIENCE })) {
          outcome = this.#take(bytes, start, end);
        }
        if (this.#closed) return;
      }
      if (outcome === "back") {
        starts[kept] = start;
        ends[kept++] = end;
      } else if (outcome !== "taken") this.#dropped++;
    }
    writeBack();
  }

  /** `back`: the packet was rewritten and goes to the device. */
  #take(bytes: Uint8Array<ArrayBuffer>, start: number, end: number): Taken | "back" {
    const packet = this.#packet;
    const { view } = packet;
    packet.bytes = bytes;
    packet.start = start;
    packet.end = end;
    if (readPacket(bytes, start, end, view) !== undefined) return "dropped";
    // The interface takes packets of any size, so that nobody has to cut them.
    if (view.moreFragments || view.fragmentOffset > 0) return "dropped";
    switch (view.protocol) {
      case PROTOCOL_TCP:
        return this.#tcp.take(packet) ? "back" : "taken";
      case PROTOCOL_UDP:
        return isManifold(view) ? "dropped" : this.#datagrams.take(packet);
      case PROTOCOL_ICMP:
        return view.version === 4 && view.icmpType === ECHO_REQUEST
          ? this.#datagrams.take(packet)
          : "dropped";
      case PROTOCOL_ICMPV6:
        return view.version === 6 && view.icmpType === ECHO_REQUEST6 && !isManifold(view)
          ? this.#datagrams.take(packet)
          : "dropped";
      default:
        return "dropped";
    }
  }
}

interface CurrentPacket extends LocatedPacket {
  bytes: Uint8Array<ArrayBuffer>;
  start: number;
  end: number;
}

/** See {@linkcode Capture.counts}. */
export interface CaptureCounts {
  /** Connections. */
  readonly tcp: number;
  /** UDP associations and pings. */
  readonly datagrams: number;
  /** Packets dropped. */
  readonly dropped: number;
  /** Packets that the kernel did not take back. */
  readonly refused: number;
}

/** Whether a packet goes to many: the kernel tells of itself on every interface. */
function isManifold({ version, dst0, dst3 }: PacketView): boolean {
  return version === 6 ? dst0 >>> 24 === 0xff : dst3 >>> 28 === 0xe;
}
