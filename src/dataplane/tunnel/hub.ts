/**
 * The relay's side of all tunnels: takes packets from peers, lets pass what scope and egress policy allow, hands them to
 * the device or to another peer, and brings back from the device only what a peer has asked for.
 */

import { formatIp, type IpAddress, type IpPrefix, prefixContains, prefixRange } from "../../base/ip.ts";
import type { EgressIdentity } from "../../core/egress/document.ts";
import type { EgressEngine } from "../../core/egress/engine.ts";
import type { FlowEntry } from "../../core/egress/flow.ts";
import { RouteSet } from "../../core/route_set.ts";
import { TunnelRegistry } from "../../core/tunnel_registry.ts";
import { AddressSet } from "./address_set.ts";
import { type Drops, TunnelCounters } from "./counters.ts";
import { DeviceWriter } from "./device_writer.ts";
import { Forwarder } from "./forwarder.ts";
import { PacketBatch } from "./packet_batch.ts";
import type { PacketDevice } from "./packet_device.ts";
import { TunnelSession, type TunnelSessionOptions } from "./tunnel_session.ts";

/** Packets of one read, and bytes: several large segments of the device cut to packets. */
const READ_PACKETS = 256;
const READ_BYTES = READ_PACKETS * 1_536;

/**
 * Turns that a full link gets to take the last read's packets before more are read. One that needs more is slow: nobody
 * waits for it again until its backlog is empty.
 */
const TURNS_FOR_FULL_LINK = 32;

/** Sessions whose drops are reported per {@linkcode TunnelHub.tick}: log lines a second, whoever sends however much. */
const REPORTS_PER_TICK = 4;

/** What a {@linkcode TunnelHub} is made of. */
export interface TunnelHubOptions {
  readonly device: PacketDevice;
  /** Judges the packets. Give it {@linkcode TunnelHub.identityAt}; the hub drives its clock. */
  readonly engine: EgressEngine;
  /** The relay's own address in the pool of each version: the source of its ICMP errors; null without a pool. */
  readonly gateway4: IpAddress | null;
  readonly gateway6: IpAddress | null;
  /** The pools that peers' addresses are from. What goes to them never leaves by the device, gateways excepted. */
  readonly pools: readonly IpPrefix[];
  /** Runs a function when the events that wait are handled: the end of a burst. */
  readonly schedule: (run: () => void) => void;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  /** Told of the first packet of each flow, allowed or not; of refused ones only so many per second and peer. */
  readonly onDecision: (session: TunnelSession, flow: FlowEntry) => void;
  /** Told when a DNS answer opened addresses to a peer, before it gets the answer: routes may be due. */
  readonly onLearned?: (session: TunnelSession) => void;
  /** Told of each flow that is over, with its last counters; the identity may have no session any more. */
  readonly onClosedFlow?: (identity: string, flow: FlowEntry) => void;
  /** Told of packets dropped since the last report; at most a few times per {@linkcode TunnelHub.tick}. */
  readonly onDrops?: (session: TunnelSession, drops: Drops) => void;
  /** Told of errors that have no caller to go to. */
  readonly onError?: (error: unknown) => void;
}

/** All tunnels of a relay. */
export class TunnelHub {
  /** Packets of the device that concern no peer. */
  readonly counters = new TunnelCounters();
  readonly #options: TunnelHubOptions;
  readonly #device: PacketDevice;
  readonly #registry = new TunnelRegistry<TunnelSession>();
  readonly #writer: DeviceWriter;
  readonly #forwarder: Forwarder;
  readonly #endBurst = () => this.#flush();
  #inBurst = false;
  #closed = false;
  #reporting: Iterator<TunnelSession> | undefined;

  constructor(options: TunnelHubOptions) {
    this.#options = options;
    this.#device = options.device;
    this.#writer = new DeviceWriter(options.device);
    const gateways = [options.gateway4, options.gateway6].filter((address) => address !== null);
    this.#forwarder = new Forwarder({
      registry: this.#registry,
      pools: RouteSet.from(options.pools.map((pool) => ({ range: prefixRange(pool), protocol: 0 }))),
      gateways: new AddressSet(gateways),
      writer: this.#writer,
      counters: this.counters,
      onDecision: options.onDecision,
      onLearned: options.onLearned,
    });
  }

  /** Packets for the device that the kernel refused. */
  get refusedByDevice(): number {
    return this.#writer.refused;
  }

  /**
   * Takes a peer in; the session of its identity before is detached and told. Throws `TypeError`, having
   * released the client, when an address is no free one of a pool.
   */
  attach(options: TunnelSessionOptions): TunnelSession {
    const session = new TunnelSession(this, options);
    const replaced = this.#register(session, options);
    this.#options.engine.peersChanged();
    if (replaced !== undefined) this.#end(replaced, { replaced: true });
    return session;
  }

  /** Lets a session go; {@linkcode TunnelSession.detach} calls it. */
  detach(session: TunnelSession): void {
    if (!this.#registry.remove(session)) return;
    this.#options.engine.peersChanged();
    this.#end(session, { replaced: false });
  }

  /** The session of an identity, by its SPIFFE ID. */
  sessionOf(uri: string): TunnelSession | undefined {
    return this.#registry.byIdentity(uri);
  }

  /** All sessions. */
  sessions(): Iterable<TunnelSession> {
    return this.#registry.sessions();
  }

  /** Who has an address of a pool now: what `identity` rules ask. The words are those of a packet view. */
  identityAt(version: 4 | 6, w0: number, w1: number, w2: number, w3: number): EgressIdentity | undefined {
    return this.#registry.byAddress(version, w0, w1, w2, w3)?.identity;
  }

  /** Tells the owner of an error that has no caller to go to. */
  failed(error: unknown): void {
    this.#options.onError?.(error);
  }

  /** Serves the device until it is closed; rejects when it fails. */
  async run(): Promise<void> {
    const batch = new PacketBatch({ maxPackets: READ_PACKETS, maxBytes: READ_BYTES });
    while (!this.#closed) {
      if (this.#device.read(batch) === 0) {
        if (!await this.#device.readable()) return;
        continue;
      }
      const full = this.#fromDevice(batch);
      // After each read the event loop gets a turn, for QUIC to send what it was given and to read what came.
      if (full !== undefined) await this.#letDrain(full);
      else await this.turn();
    }
  }

  /** Resolves when the events that wait now were handled. */
  turn(): Promise<void> {
    return new Promise((resolve) => this.#options.schedule(resolve));
  }

  /** Ends the reading loop and closes the device. Sessions stay the owner's to detach. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#device.close();
  }

  /** Closes idle flows, reports drops and looks again at stuck links. Call it about once a second. */
  tick(): void {
    const { engine, onClosedFlow, now } = this.#options;
    engine.expire(now(), (flow, { identity }) => onClosedFlow?.(identity, flow));
    for (const session of this.#registry.sessions()) session.tick();
    this.#report();
  }

  /** Handles a packet of a peer; {@linkcode TunnelSession.receive} calls it. */
  fromPeer(session: TunnelSession, packet: Uint8Array<ArrayBuffer>): void {
    if (!this.#inBurst) {
      this.#inBurst = true;
      this.#forwarder.startBurst(this.#options.now());
      this.#options.schedule(this.#endBurst);
    }
    try {
      this.#forwarder.fromPeer(session, packet);
    } catch (error) {
      session.counters.drop("failed");
      this.failed(error);
    }
  }

  #register(session: TunnelSession, options: TunnelSessionOptions): TunnelSession | undefined {
    const { identity, addresses, client } = options;
    try {
      for (const address of addresses) this.#checkAddress(address);
      return this.#registry.add({ identity: identity.uri, addresses, session });
    } catch (error) {
      this.#options.engine.release(client, this.#options.now());
      throw error;
    }
  }

  /** The engine keeps the flows for a while: a peer that comes back finds them as they were. */
  #end(session: TunnelSession, how: { readonly replaced: boolean }): void {
    this.#options.engine.release(session.client, this.#options.now());
    session.end(how);
  }

  #checkAddress(address: IpAddress): void {
    const { pools, gateway4, gateway6 } = this.#options;
    const gateway = address.version === 4 ? gateway4 : gateway6;
    if (gateway?.value !== address.value && pools.some((pool) => prefixContains(pool, address))) return;
    throw new TypeError(`Cannot attach a peer as ${formatIp(address)}: no address of a pool for peers`);
  }

  #flush(): void {
    this.#inBurst = false;
    this.#writer.flush();
  }

  /** Forwards a batch; returns a session whose link is full and was not before. */
  #fromDevice(batch: PacketBatch): TunnelSession | undefined {
    const forwarder = this.#forwarder;
    forwarder.startBurst(this.#options.now());
    const { bytes, starts, ends, count } = batch;
    let full: TunnelSession | undefined;
    for (let i = 0; i < count; i++) {
      try {
        const session = forwarder.fromDevice(bytes, starts[i]!, ends[i]!);
        if (session?.isFilling) full = session;
      } catch (error) {
        this.counters.drop("failed");
        this.failed(error);
      }
    }
    this.#writer.flush();
    return full;
  }

  async #letDrain(session: TunnelSession): Promise<void> {
    for (let turns = 0; turns < TURNS_FOR_FULL_LINK && session.waiting > 0; turns++) await this.turn();
    if (session.waiting > 0) session.isSlow = true;
  }

  #report(): void {
    const { onDrops } = this.#options;
    if (onDrops === undefined) return;
    let reports = 0;
    for (let rounds = 0; rounds < 2 && reports < REPORTS_PER_TICK;) {
      const next = this.#reporting?.next();
      if (next === undefined || next.done) {
        this.#reporting = this.#registry.sessions()[Symbol.iterator]();
        rounds++;
      } else if (next.value.hasNewDrops()) {
        onDrops(next.value, next.value.counters.drops());
        reports++;
      }
    }
  }
}
