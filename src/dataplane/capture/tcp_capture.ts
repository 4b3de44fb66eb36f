/**
 * Captured TCP: an address translation, not a stack. Our kernel terminates the connections: their packets are turned
 * around so that a listener of ours accepts them, and every accepted socket is joined with a flow that is open already.
 *
 *   program A:sp ──▶ service V:dp      becomes      peer:mp ──▶ own:lp, and back; mp tells which connection it is
 */

import type { ByteChannel } from "../../base/channel.ts";
import { ipFromWords } from "../../base/ip.ts";
import type { Logger } from "../../base/log.ts";
import type { LocatedPacket } from "../../wire/packet/icmp.ts";
import { rewriteFlow } from "../../wire/packet/rewrite.ts";
import { splice } from "../splice.ts";
import type { CaptureAddresses } from "./capture_addresses.ts";
import { type CapturePorts, OPEN_TIMEOUT } from "./capture_ports.ts";
import type { CaptureWriter } from "./capture_writer.ts";
import { serveDnsStream } from "./dns_stream.ts";
import { FlowTable } from "./flow_table.ts";
import { TcpConnection } from "./tcp_connection.ts";

/** Connections at once, of both versions: a runaway program must not take all descriptors. About 2 KiB each. */
const MAX_CONNECTIONS = 16_384;

/** Ports of the invented peer. */
const FIRST_PORT = 1_024;
const PORTS = 65_536 - FIRST_PORT;

/** Milliseconds until our own kernel must have answered a SYN. */
const ANSWER_TIME = 3_000;

/** Milliseconds for a socket to be accepted: the kernel may have many in its queue. */
const ACCEPT_TIME = 10_000;

/** Milliseconds between sweeps after which this process itself, or the machine, stood still: nobody else is to blame. */
const STANDSTILL = 2_500;

/** Milliseconds that late packets of an ended connection may come: a little more than the kernel's TIME_WAIT. */
const LINGER = 65_000;

const DNS_PORT = 53;
const FIN = 1;
const SYN = 2;
const RST = 4;
const ACK = 16;

/** What captured TCP is made of. */
export interface TcpCaptureOptions {
  readonly ports: CapturePorts;
  readonly addresses: CaptureAddresses;
  /** Ports of our listeners at the interface's own addresses; absent: connections of that version are refused. */
  readonly listeners: Readonly<Partial<Record<4 | 6, number>>>;
  readonly writer: CaptureWriter;
  /** Whether a new flow may come from this packet's source. */
  readonly mayCapture: (packet: LocatedPacket) => boolean;
  readonly now: () => number;
  readonly logger: Logger;
}

/** All captured connections. */
export class TcpCapture {
  readonly #options: TcpCaptureOptions;
  readonly #table = new FlowTable<TcpConnection>();
  readonly #byPort: Readonly<Record<4 | 6, (TcpConnection | undefined)[]>> = { 4: [], 6: [] };
  /** Ended ones, longest ago first. */
  readonly #over = new Set<TcpConnection>();
  readonly #serving = new Set<Promise<void>>();
  #nextPort = Math.floor(Math.random() * PORTS);
  #isBlocked = false;
  #sweptAt: number;
  #closed = false;

  constructor(options: TcpCaptureOptions) {
    this.#options = options;
    this.#sweptAt = options.now();
  }

  /** Connections that are not over. */
  get size(): number {
    return this.#table.size - this.#over.size;
  }

  /** Takes a TCP packet from the device; true when it was rewritten and is to be written back. */
  take(packet: LocatedPacket): boolean {
    const { view } = packet;
    const { addresses, listeners, writer } = this.#options;
    if (
      addresses.goesToPeer(view) && view.srcPort === listeners[view.version] && addresses.comesFromOwn(view)
    ) return this.#takeAnswer(packet);
    let connection = this.#table.find(view);
    const isFirst = (view.tcpFlags & (SYN | ACK | RST | FIN)) === SYN;
    if (connection !== undefined && isFirst && isReplaceable(connection)) {
      this.#forget(connection);
      connection = undefined;
    }
    if (connection === undefined) {
      if (isFirst) this.#open(packet);
      else if (this.#options.mayCapture(packet)) writer.reset(packet);
      return false;
    }
    // Retransmissions of a held SYN; a program that gives up says nothing.
    if (connection.state === "opening") return false;
    if ((view.tcpFlags & RST) !== 0) {
      connection.wasReset = true;
      if (connection.state === "offered") this.#end(connection, new Error("The program gave up"));
    }
    rewriteFlow(packet.bytes, packet.start, view, connection.inward);
    return true;
  }

  /** Takes a socket that the listener accepted, and who it seems to come from. Resolves when it is done. */
  accept(channel: ByteChannel, from: { readonly version: 4 | 6; readonly port: number }): void {
    const connection = this.#byPort[from.version][from.port];
    if (connection?.state !== "offered" || this.#closed) return channel.abort();
    connection.enter("carried", this.#options.now());
    const serving = this.#carry(connection, channel).finally(() => this.#serving.delete(serving));
    this.#serving.add(serving);
  }

  /** Ends what has waited too long. Call it about once a second. */
  sweep(): void {
    const now = this.#options.now();
    const stoodStill = now - this.#sweptAt > STANDSTILL;
    this.#sweptAt = now;
    for (const connection of this.#over) {
      if (now - connection.since < LINGER) break;
      this.#forget(connection);
    }
    for (const connection of this.#table) {
      if (connection.state !== "offered") continue;
      if (stoodStill) connection.since = now;
      const age = now - connection.since;
      if (age > ANSWER_TIME && !connection.wasAnswered) this.#blocked(connection);
      else if (age > ACCEPT_TIME) this.#end(connection, new Error("The connection was not completed"));
    }
  }

  /** Ends every connection and resolves when all are gone. Idempotent. */
  async close(reason: unknown = new Error("Capture ended")): Promise<void> {
    this.#closed = true;
    for (const connection of this.#table) {
      if (connection.state === "opening") this.#options.writer.reset(connection.syn());
      this.#end(connection, reason);
    }
    await Promise.all(this.#serving);
  }

  #takeAnswer(packet: LocatedPacket): boolean {
    const { view, bytes, start } = packet;
    const connection = this.#byPort[view.version][view.dstPort];
    if (connection === undefined || connection.state === "opening") {
      // Nobody is there any more, or nobody ever was: somebody else than we spoke to the listener.
      this.#options.writer.reset(packet);
      return false;
    }
    connection.wasAnswered = true;
    rewriteFlow(bytes, start, view, connection.outward);
    return true;
  }

  #open(packet: LocatedPacket): void {
    const { ports, addresses, listeners, writer, now, mayCapture } = this.#options;
    const { version, dst0, dst1, dst2, dst3, dstPort } = packet.view;
    if (!mayCapture(packet)) return;
    if (this.#closed) return writer.reset(packet);
    const isDns = addresses.goesToResolver(packet.view);
    const match = isDns
      ? "port"
      : ports.match(ipFromWords(version, dst0, dst1, dst2, dst3), { protocol: "tcp", port: dstPort });
    if (match === "unknown") return writer.refuse(packet, "prohibited");
    const ownPort = listeners[version];
    const goesNowhere = match === "port" && !(isDns && dstPort === DNS_PORT);
    if (goesNowhere || ownPort === undefined || !this.#makeRoom()) return writer.reset(packet);
    const place = {
      own: addresses.own[version].bytes,
      ownPort,
      peer: addresses.peer[version].bytes,
      peerPort: this.#freePort(version),
    };
    const connection = new TcpConnection(packet, { place, now: now() });
    this.#table.add(connection);
    this.#byPort[version][connection.peerPort] = connection;
    if (match === "port") return this.#offer(connection);
    const { service, address } = match;
    const target = { service: service.name, port: dstPort, ...(address !== undefined && { address }) };
    const signal = AbortSignal.any([
      connection.ending.signal,
      AbortSignal.timeout(service.connectTimeout ?? OPEN_TIMEOUT),
    ]);
    Promise.try(() => ports.connect(target, { signal })).then((flow) => {
      if (connection.state !== "opening") return flow.abort(connection.ending.signal.reason);
      connection.flow = flow;
      this.#offer(connection);
    }, (error) => this.#refuse(connection, error));
  }

  /** Lets the held SYN through. */
  #offer(connection: TcpConnection): void {
    const { writer, now } = this.#options;
    const { bytes, start, view } = connection.syn();
    connection.enter("offered", now());
    rewriteFlow(bytes, start, view, connection.inward);
    writer.add(bytes);
  }

  #refuse(connection: TcpConnection, error: unknown): void {
    const { writer, ports } = this.#options;
    // The network's word on a connection that is gone; nobody waits for it.
    if (connection.state !== "opening") return;
    this.#forget(connection);
    const refusal = ports.refusalOf(error);
    if (refusal === "refused") writer.reset(connection.syn());
    else writer.refuse(connection.syn(), refusal);
  }

  async #carry(connection: TcpConnection, channel: ByteChannel): Promise<void> {
    const { flow, ending: { signal } } = connection;
    const { answerDns } = this.#options.ports;
    if (flow === undefined) {
      await serveDnsStream(channel, { answer: (query) => answerDns(query, { viaTcp: true }), signal });
    } else await splice(channel, flow, { signal });
    connection.flow = undefined;
    this.#end(connection, undefined);
  }

  /** What is still open of it is cut; late packets pass for a while. */
  #end(connection: TcpConnection, reason: unknown): void {
    if (connection.state === "over") return;
    connection.enter("over", this.#options.now());
    connection.ending.abort(reason);
    connection.flow?.abort(reason);
    connection.flow = undefined;
    this.#over.add(connection);
  }

  #forget(connection: TcpConnection): void {
    this.#end(connection, new Error("The connection is forgotten"));
    this.#over.delete(connection);
    this.#table.delete(connection);
    this.#byPort[connection.version][connection.peerPort] = undefined;
  }

  #makeRoom(): boolean {
    if (this.#table.size < MAX_CONNECTIONS) return true;
    const [oldest] = this.#over;
    if (oldest === undefined) return false;
    this.#forget(oldest);
    return true;
  }

  /** There is a free one: there are fewer connections than ports. */
  #freePort(version: 4 | 6): number {
    const taken = this.#byPort[version];
    for (;;) {
      const port = FIRST_PORT + this.#nextPort;
      this.#nextPort = (this.#nextPort + 1) % PORTS;
      if (taken[port] === undefined) return port;
    }
  }

  #blocked(connection: TcpConnection): void {
    const { logger, writer } = this.#options;
    if (!this.#isBlocked) {
      this.#isBlocked = true;
      logger.warn("capture_blocked", {
        detail: "this machine's firewall seems to drop what comes from the interface for services",
      });
    }
    this.#forget(connection);
    writer.refuse(connection.syn(), "unreachable");
  }
}

/** Whether a new SYN between the same ends begins another connection. */
function isReplaceable({ state, wasReset }: TcpConnection): boolean {
  return state === "over" || (state === "carried" && wasReset);
}
