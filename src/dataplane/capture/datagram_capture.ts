/**
 * Captured UDP and echo requests: payloads go into flows of datagrams, one for each program's port and destination, and
 * what comes back becomes packets from just that destination. The resolver's address is answered here.
 */

import { ipFromWords } from "../../base/ip.ts";
import {
  type AnswerEnds,
  answerEnds,
  ECHO_HEADERS,
  UDP_HEADERS,
  writeEchoReply,
  writeUdpHeaders,
} from "../../wire/packet/answers.ts";
import type { LocatedPacket } from "../../wire/packet/icmp.ts";
import { PROTOCOL_UDP } from "../../wire/packet/packet_view.ts";
import type { DatagramFlow } from "../datagram/datagram_flow.ts";
import type { CaptureAddresses } from "./capture_addresses.ts";
import { type CapturePorts, OPEN_TIMEOUT } from "./capture_ports.ts";
import type { CaptureWriter } from "./capture_writer.ts";
import { DatagramAssociation } from "./datagram_association.ts";
import { FlowTable } from "./flow_table.ts";

/** Associations at once. */
const MAX_ASSOCIATIONS = 4_096;

/** Bytes that wait for flows to open, all together. */
const MAX_HELD_BYTES = 4 * 1_048_576;

/** Milliseconds that a refusal is repeated without asking anew. */
const REFUSAL_TIME = 1_000;

/** Milliseconds after which a ping that sends nothing has ended. */
const PING_IDLE = 60_000;

/** DNS answers on their way; a further query is dropped, and its program asks again. */
const MAX_QUERIES = 1_024;

const DNS_PORT = 53;
/** The largest packet there can be. */
const MAX_PACKET = 65_535;

/** What captured datagrams are made of. */
export interface DatagramCaptureOptions {
  readonly ports: CapturePorts;
  readonly addresses: CaptureAddresses;
  readonly writer: CaptureWriter;
  /** Whether a new flow may come from this packet's source. */
  readonly mayCapture: (packet: LocatedPacket) => boolean;
  readonly now: () => number;
}

/** What became of a packet; `full`: its flow takes none now, and the packet may be offered again. */
export type Taken = "taken" | "dropped" | "full";

/** All captured associations. */
export class DatagramCapture {
  readonly #options: DatagramCaptureOptions;
  readonly #table = new FlowTable<DatagramAssociation>();
  #heldBytes = 0;
  #queries = 0;
  #closed = false;

  constructor(options: DatagramCaptureOptions) {
    this.#options = options;
  }

  /** Associations now. */
  get size(): number {
    return this.#table.size;
  }

  /** Takes a UDP packet or an echo request from the device. */
  take(packet: LocatedPacket): Taken {
    const { addresses, writer } = this.#options;
    if (addresses.goesToResolver(packet.view)) return this.#toResolver(packet);
    const association = this.#table.find(packet.view);
    if (association === undefined) return this.#open(packet);
    const { flow, refusal } = association;
    association.wasUsed = true;
    if (flow !== undefined) {
      return flow.send(packet.bytes as Uint8Array<ArrayBuffer>, payloadStart(packet), packet.end)
        ? "taken"
        : "full";
    }
    if (refusal === undefined) return this.#hold(association, packet);
    writer.refuse(packet, refusal);
    return "dropped";
  }

  /**
   * Waits until the flow of a packet that found it full takes packets again, but not for long: the others wait as well.
   * A flow that was waited for in vain is not waited for again for a while. False: drop the packet.
   */
  async wait(packet: LocatedPacket, { patience }: { readonly patience: number }): Promise<boolean> {
    const association = this.#table.find(packet.view);
    const flow = association?.flow;
    if (association === undefined || flow === undefined) return false;
    if (this.#options.now() < association.stalledUntil) return false;
    const isWritable = await within(flow.writable(), patience);
    if (!isWritable) association.stalledUntil = this.#options.now() + 20 * patience;
    return isWritable;
  }

  /** Ends what has waited too long. Call it about once a second. */
  sweep(): void {
    const now = this.#options.now();
    for (const association of this.#table) {
      // No look at the clock for each packet.
      if (association.wasUsed) association.usedAt = now;
      association.wasUsed = false;
      const isIdlePing = association.protocol !== PROTOCOL_UDP && now - association.usedAt > PING_IDLE;
      if (now >= association.forgetAt || isIdlePing) this.#forget(association);
    }
  }

  /** Ends every flow. Idempotent. */
  close(): void {
    this.#closed = true;
    for (const association of this.#table) this.#forget(association);
  }

  #open(packet: LocatedPacket): Taken {
    const { ports, writer, mayCapture, now } = this.#options;
    const { view } = packet;
    if (this.#closed || !mayCapture(packet)) return "dropped";
    const isUdp = view.protocol === PROTOCOL_UDP;
    const { version, dst0, dst1, dst2, dst3, dstPort } = view;
    const match = ports.match(
      ipFromWords(version, dst0, dst1, dst2, dst3),
      isUdp ? { protocol: "udp", port: dstPort } : { protocol: "icmp" },
    );
    if (typeof match === "string") {
      writer.refuse(packet, match === "unknown" ? "prohibited" : "refused");
      return "dropped";
    }
    if (this.#table.size >= MAX_ASSOCIATIONS) return "dropped";
    const association = new DatagramAssociation(packet, now());
    this.#table.add(association);
    const { service, address } = match;
    const target = {
      service: service.name,
      ...(isUdp && { port: dstPort }),
      ...(address !== undefined && { address }),
      protocol: isUdp ? "udp" : "icmp",
    } as const;
    const signal = AbortSignal.any([
      association.ending.signal,
      AbortSignal.timeout(service.connectTimeout ?? OPEN_TIMEOUT),
    ]);
    Promise.try(() => ports.connectDatagrams(target, { signal })).then(
      (flow) => this.#opened(association, flow),
      (error) => this.#refuse(association, error),
    );
    return this.#hold(association, packet);
  }

  #hold(association: DatagramAssociation, packet: LocatedPacket): Taken {
    const length = packet.end - packet.start;
    if (this.#heldBytes + length > MAX_HELD_BYTES || !association.hold(packet)) return "dropped";
    this.#heldBytes += length;
    return "taken";
  }

  #opened(association: DatagramAssociation, flow: DatagramFlow): void {
    if (association.ending.signal.aborted) return flow.close(association.ending.signal.reason);
    association.flow = flow;
    association.usedAt = this.#options.now();
    const isUdp = association.protocol === PROTOCOL_UDP;
    flow.receive(
      isUdp
        ? (payload) => this.#answerUdp(association.ends, payload)
        : (message) => this.#answerEcho(association, message),
    );
    this.#heldBytes -= association.heldBytes;
    for (const bytes of association.release()) {
      flow.send(bytes, payloadStart({ bytes, start: 0, view: association.first().view }), bytes.length);
    }
    flow.closed.then((error) => {
      association.flow = undefined;
      // Any other end is nothing to the program: its next packet opens another flow, or is told why not.
      const isRefused = error !== undefined && this.#options.ports.refusalOf(error) === "refused";
      if (isRefused) this.#refuse(association, error);
      else this.#forget(association);
    });
  }

  /** There is no flow, or none any more: the program is told, and again at its next packets. */
  #refuse(association: DatagramAssociation, error: unknown): void {
    if (association.ending.signal.aborted) return;
    const { ports, writer, now } = this.#options;
    this.#heldBytes -= association.heldBytes;
    association.release();
    association.refusal = ports.refusalOf(error);
    association.forgetAt = now() + REFUSAL_TIME;
    writer.refuse(association.first(), association.refusal);
  }

  #forget(association: DatagramAssociation): void {
    this.#table.delete(association);
    this.#heldBytes -= association.heldBytes;
    association.release();
    association.ending.abort(new Error("Capture of the flow ended"));
    association.flow?.close();
  }

  #answerUdp(ends: AnswerEnds, payload: Uint8Array): void {
    const { writer } = this.#options;
    const header = UDP_HEADERS[ends.version];
    const length = header + payload.length;
    if (length > MAX_PACKET) return;
    const start = writer.reserve(length);
    writer.bytes.set(payload, start + header);
    writeUdpHeaders(writer.bytes, start, start + length, ends);
  }

  #answerEcho({ ends, srcPort: id }: DatagramAssociation, message: Uint8Array): void {
    // The far end may answer only what was asked.
    if (message.length < 4 || ((message[0]! << 8) | message[1]!) !== id) return;
    this.#writeEcho(ends, message);
  }

  #writeEcho(ends: AnswerEnds, message: Uint8Array): void {
    const { writer } = this.#options;
    const header = ECHO_HEADERS[ends.version];
    const length = header + message.length;
    if (length > MAX_PACKET) return;
    const start = writer.reserve(length);
    writer.bytes.set(message, start + header);
    writeEchoReply(writer.bytes, start, start + length, ends);
  }

  #toResolver(packet: LocatedPacket): Taken {
    const { mayCapture, writer } = this.#options;
    const { view, bytes, end } = packet;
    if (this.#closed || !mayCapture(packet)) return "dropped";
    if (view.protocol !== PROTOCOL_UDP) {
      this.#writeEcho(answerEnds(packet), bytes.subarray(payloadStart(packet), end));
      return "taken";
    }
    if (view.dstPort === DNS_PORT) return this.#query(packet);
    writer.refuse(packet, "refused");
    return "dropped";
  }

  #query(packet: LocatedPacket): Taken {
    if (this.#queries >= MAX_QUERIES) return "dropped";
    const { answerDns } = this.#options.ports;
    const query = packet.bytes.subarray(payloadStart(packet), packet.end) as Uint8Array<ArrayBuffer>;
    const ends = answerEnds(packet);
    const answer = answerDns(query, { viaTcp: false });
    if (answer instanceof Uint8Array) {
      // Nothing is to be said to what is no query.
      if (answer.length > 0) this.#answerUdp(ends, answer);
    } else {
      this.#queries++;
      answer.then((late) => {
        if (!this.#closed) this.#answerUdp(ends, late);
      }, () => {
        // Who answers has told the reason already; the program asks again.
      }).finally(() => this.#queries--);
    }
    return "taken";
  }
}

/** Where the UDP payload of a packet begins, or the identifier of its echo message. */
function payloadStart(
  { start, view }: Pick<LocatedPacket, "start" | "view"> & { bytes: Uint8Array },
): number {
  return start + view.headerLength + (view.protocol === PROTOCOL_UDP ? 8 : 4);
}

/** Whether a promise settles within so many milliseconds. */
function within(promise: Promise<void>, patience: number): Promise<boolean> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => resolve(false), patience);
    promise.catch(() => {}).then(() => {
      clearTimeout(timer);
      resolve(true);
    });
  });
}
