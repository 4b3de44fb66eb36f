/**
 * The agent's side of its tunnel: carries packets between the device and a link, both ways only within the assigned
 * addresses and the advertised routes. Links come and go; the device, and what waits in it, stays.
 */

import { type IpAddress, ipFromWords } from "../../base/ip.ts";
import { RouteSet } from "../../core/route_set.ts";
import {
  encodeIcmpError,
  type IcmpError,
  innerOfIcmpError,
  type LocatedPacket,
} from "../../wire/packet/icmp.ts";
import { newPacketView, PROTOCOL_UDP, readPacket } from "../../wire/packet/packet_view.ts";
import { AddressSet } from "./address_set.ts";
import { type DropReason, TunnelCounters } from "./counters.ts";
import { DeviceWriter } from "./device_writer.ts";
import { isAnswerTo, isIcmpError } from "./packet_checks.ts";
import { PacketBatch } from "./packet_batch.ts";
import type { PacketDevice } from "./packet_device.ts";
import { TokenBucket } from "./token_bucket.ts";
import type { TunnelLink } from "./tunnel_link.ts";

/** Packets of one read, and bytes: several large segments of the device cut to packets. */
const READ_PACKETS = 256;
const READ_BYTES = READ_PACKETS * 1_536;

/**
 * Milliseconds without a link during which packets wait in the device; later ones are refused, so that programs need not
 * run into their own time-outs. A relay's restart and a change of network take less.
 */
const PATIENCE = 15_000;

/** Times in a row that a link may say it is writable and take nothing, before only time is expected to help. */
const MAX_ATTEMPTS = 16;

/** DNS answers held back at a time; a further one passes, and its program may have to try twice. */
const MAX_HELD = 64;

const DNS_PORT = 53;

/** ICMP errors into our own kernel. */
const ICMP_ERRORS = { burst: 100, perSecond: 100 } as const;

const NO_ROUTE: IcmpError = { kind: "no_route" };

/** What a {@linkcode TunnelClient} is made of. */
export interface TunnelClientOptions {
  readonly device: PacketDevice;
  /** Runs a function when the events that wait are handled: the end of a burst. */
  readonly schedule: (run: () => void) => void;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  /** Told of errors that have no caller to go to. */
  readonly onError?: (error: unknown) => void;
}

/** One agent's tunnel. */
export class TunnelClient {
  readonly counters = new TunnelCounters();
  readonly #options: TunnelClientOptions;
  readonly #device: PacketDevice;
  readonly #writer: DeviceWriter;
  readonly #icmpErrors = new TokenBucket(ICMP_ERRORS);
  readonly #view = newPacketView();
  readonly #inner = newPacketView();
  readonly #endBurst = () => this.#flush();
  #own = new AddressSet([]);
  #routes = RouteSet.from([]);
  #link: TunnelLink | undefined;
  #unlinkedSince: number;
  #mtu = 0;
  #now = 0;
  #attempts = 0;
  #inBurst = false;
  #closed = false;
  /** DNS answers that wait; undefined while none has to. */
  #held: Uint8Array[] | undefined;
  /** Ends the wait for a link, or for one that takes nothing. */
  #resume: (() => void) | undefined;

  constructor(options: TunnelClientOptions) {
    this.#options = options;
    this.#device = options.device;
    this.#writer = new DeviceWriter(options.device);
    this.#unlinkedSince = options.now();
  }

  /** Packets from the link that the kernel refused. */
  get refusedByDevice(): number {
    return this.#writer.refused;
  }

  /** The addresses that are assigned to us now. */
  setAddresses(addresses: readonly IpAddress[]): void {
    this.#own = new AddressSet(addresses);
  }

  /** Where packets may go now, and where they may come from. */
  setRoutes(routes: RouteSet): void {
    this.#routes = routes;
  }

  /** Keeps DNS answers back from now on: the routes to what they name are on their way into the kernel. */
  holdAnswers(): void {
    this.#held ??= [];
  }

  /** Delivers the answers that were kept back, and keeps none any more. */
  releaseAnswers(): void {
    const held = this.#held ?? [];
    this.#held = undefined;
    for (const packet of held) this.#toDevice(packet);
  }

  /** Sends by another link from now on; `undefined` while there is none: packets wait, and are refused after a while. */
  setLink(link: TunnelLink | undefined): void {
    if (link === undefined && this.#link !== undefined) this.#unlinkedSince = this.#options.now();
    this.#link = link;
    this.#attempts = 0;
    this.#followMtu();
    this.#resume?.();
  }

  /** Serves the device until it is closed; rejects when it fails. */
  async run(): Promise<void> {
    const batch = new PacketBatch({ maxPackets: READ_PACKETS, maxBytes: READ_BYTES });
    while (!this.#closed) {
      if (this.#device.read(batch) === 0) {
        if (!await this.#device.readable()) return;
        continue;
      }
      for (let next = 0; (next = this.#sendFrom(batch, next)) < batch.count;) {
        await this.#pause();
        if (this.#closed) return;
      }
      // After each read the event loop gets a turn, for QUIC to send what it was given and to read what came.
      await this.#turn();
    }
  }

  /** Ends the reading loop and closes the device. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#device.close();
    this.#resume?.();
  }

  /** Follows the link's MTU and looks again at a link that takes nothing. Call it about once a second. */
  tick(): void {
    this.#followMtu();
    this.#resume?.();
  }

  /** Takes a packet from the link; never throws, whatever it is. */
  receive(packet: Uint8Array<ArrayBuffer>): void {
    try {
      this.#accept(packet);
    } catch (error) {
      this.counters.drop("failed");
      this.#options.onError?.(error);
    }
  }

  #accept(packet: Uint8Array<ArrayBuffer>): void {
    const { counters } = this;
    const view = this.#view;
    const fault = readPacket(packet, 0, packet.length, view);
    if (fault !== undefined) return counters.drop(fault);
    if (!this.#own.hasDestination(view)) return counters.drop("unsolicited");
    if (this.#own.hasSource(view)) return counters.drop("spoofed_source");
    if (isIcmpError(view)) {
      // RFC 9484 §7.2.1: ICMP errors come from wherever a packet failed, not only from within the routes.
      const inner = this.#inner;
      const isRelated = innerOfIcmpError(packet, 0, packet.length, view, inner) &&
        isAnswerTo(view, inner) && this.#routes.containsDestination(inner);
      if (!isRelated) return counters.drop("unsolicited");
    } else if (!this.#routes.containsSource(view)) return counters.drop("out_of_scope");
    counters.packetsIn++;
    counters.bytesIn += packet.length;
    const isAnswer = view.srcPort === DNS_PORT && view.protocol === PROTOCOL_UDP;
    if (isAnswer && this.#held !== undefined && this.#held.length < MAX_HELD) this.#held.push(packet.slice());
    else this.#toDevice(packet);
  }

  #flush(): void {
    this.#inBurst = false;
    this.#writer.flush();
  }

  /** Sends from packet `from` on; returns the index of the first that has to wait, or the count. */
  #sendFrom(batch: PacketBatch, from: number): number {
    const { bytes, starts, ends, count } = batch;
    this.#now = this.#options.now();
    this.#followMtu();
    let next = from;
    while (next < count && this.#send(bytes, starts[next]!, ends[next]!)) next++;
    if (next > from) this.#attempts = 0;
    return next;
  }

  /** Returns false when the packet has to wait. */
  #send(bytes: Uint8Array<ArrayBuffer>, start: number, end: number): boolean {
    const view = this.#view;
    const fault = readPacket(bytes, start, end, view);
    if (fault !== undefined) return this.#drop(fault);
    // RFC 9484 §11: we send from our addresses and from no other, whatever our kernel routes here.
    if (!this.#own.hasSource(view)) return this.#drop("spoofed_source");
    if (!this.#routes.containsDestination(view)) {
      this.#refuse({ bytes, start, end, view }, NO_ROUTE);
      return this.#drop("out_of_scope");
    }
    const link = this.#link;
    if (link === undefined) {
      if (this.#now - this.#unlinkedSince < PATIENCE) return false;
      this.#refuse({ bytes, start, end, view }, NO_ROUTE);
      return this.#drop("no_link");
    }
    if (end - start > this.#mtu && view.dontFragment) {
      this.#refuse({ bytes, start, end, view }, { kind: "packet_too_big", mtu: this.#mtu });
      return this.#drop("too_large");
    }
    if (!this.#handOver(link, bytes, start, end)) return false;
    this.counters.packetsOut++;
    this.counters.bytesOut += end - start;
    return true;
  }

  /** A link that fails is one that takes nothing: its owner learns of its end elsewhere and sets another. */
  #handOver(link: TunnelLink, bytes: Uint8Array<ArrayBuffer>, start: number, end: number): boolean {
    try {
      return link.send(bytes, start, end);
    } catch (error) {
      this.#options.onError?.(error);
      return false;
    }
  }

  /** Returns true: a dropped packet is done with. */
  #drop(reason: DropReason): true {
    this.counters.drop(reason);
    return true;
  }

  /** Tells our own kernel, in the name of the destination: it takes no packet that claims one of its own addresses. */
  #refuse(packet: LocatedPacket, error: IcmpError): void {
    if (!this.#icmpErrors.take(this.#now)) return;
    const { version, dst0, dst1, dst2, dst3 } = packet.view;
    const message = encodeIcmpError(packet, error, ipFromWords(version, dst0, dst1, dst2, dst3));
    if (message !== undefined) this.#toDevice(message);
  }

  #toDevice(packet: Uint8Array): void {
    this.#writer.add(packet);
    if (this.#inBurst) return;
    this.#inBurst = true;
    this.#options.schedule(this.#endBurst);
  }

  /** Waits for a link, or until the link takes packets again. */
  async #pause(): Promise<void> {
    const link = this.#link;
    // A link that has ended is writable and takes nothing: after some attempts only the clock or another link helps.
    const asks = link !== undefined && ++this.#attempts <= MAX_ATTEMPTS;
    await new Promise<void>((resolve) => {
      this.#resume = resolve;
      if (asks) void writable(link).then(resolve);
    });
    this.#resume = undefined;
  }

  #turn(): Promise<void> {
    return new Promise((resolve) => this.#options.schedule(resolve));
  }

  #followMtu(): void {
    const mtu = this.#link?.mtu;
    if (mtu === undefined || mtu === this.#mtu) return;
    this.#mtu = mtu;
    try {
      this.#device.setMtu(mtu);
    } catch (error) {
      this.#options.onError?.(error);
    }
  }
}

/** Resolves whatever becomes of the link. */
async function writable(link: TunnelLink): Promise<void> {
  await Promise.try(() => link.writable()).catch(() => {});
}
