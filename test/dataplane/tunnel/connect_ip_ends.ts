/**
 * Two ends of a connect-ip request joined in memory, and what each was told.
 */

import assert from "node:assert/strict";
import { toHex } from "../../../src/base/bytes.ts";
import { DATAGRAM_HEADROOM, type DatagramPort } from "../../../src/dataplane/carrier.ts";
import {
  ConnectIp,
  type ConnectIpDialect,
  type ConnectIpOptions,
} from "../../../src/dataplane/tunnel/connect_ip.ts";
import { PACKET_HEADROOM } from "../../../src/dataplane/tunnel/packet_batch.ts";
import { pattern } from "../../io/support.ts";
import { channelPair, type ChannelPairOptions } from "../../support/channel_pair.ts";

/** One end, and what it was told. */
export interface Side {
  readonly end: ConnectIp;
  readonly packets: string[];
  readonly heard: [what: string, list: readonly unknown[]][];
  readonly running: Promise<void>;
}

export interface TunnelOptions extends ChannelPairOptions {
  readonly maxSize?: number;
  readonly dialect?: ConnectIpDialect;
  /** Whether the near end insists that it be assigned addresses first. */
  readonly expectsAssign?: boolean;
  /** Whether the far end reads; without it the test reads its stream. */
  readonly isRunning?: boolean;
}

/** Two ends joined in memory. `streams[1]` and `wires` are also for the test to play the far end with. */
export function tunnel(options: TunnelOptions = {}) {
  const { maxSize = 1400, dialect = "rfc9484", isRunning = true, expectsAssign = false, ...pairOptions } =
    options;
  const streams = channelPair(pairOptions);
  const wires = [new Wire(maxSize), new Wire(maxSize)] as const;
  wires[0].peer = wires[1];
  wires[1].peer = wires[0];
  const near = makeSide({ body: streams[0], datagrams: wires[0], dialect, expectsAssign });
  const far = makeSide({ body: streams[1], datagrams: wires[1], dialect, isRunning });
  return { near, far, wires, streams };
}

export function makeSide(
  options: Pick<ConnectIpOptions, "body" | "datagrams" | "dialect" | "expectsAssign"> & {
    readonly isRunning?: boolean;
  },
): Side {
  const packets: string[] = [];
  const heard: Side["heard"] = [];
  const end = new ConnectIp({
    ...options,
    onPacket: (packet) => void packets.push(toHex(packet)),
    onAssign: (list) => void heard.push(["assign", list]),
    onRequest: (list) => void heard.push(["request", list]),
    onRoutes: (list) => void heard.push(["routes", list]),
  });
  const running = options.isRunning ?? true ? end.run() : Promise.resolve();
  // Those who look at it see its failure; most tests end while it runs.
  running.catch(() => {});
  return { end, packets, heard, running };
}

/** A port whose datagrams arrive at once. */
export class Wire implements DatagramPort {
  maxSize: number;
  peer: Wire | undefined;
  isFull = false;
  readonly sent: Uint8Array<ArrayBuffer>[] = [];
  #handler: ((payload: Uint8Array<ArrayBuffer>) => void) | undefined;
  #room = Promise.withResolvers<void>();

  constructor(maxSize: number) {
    this.maxSize = maxSize;
  }

  send(buffer: Uint8Array<ArrayBuffer>, start: number, end: number): boolean {
    assert.ok(start >= DATAGRAM_HEADROOM && end - start <= this.maxSize);
    if (this.isFull) return false;
    const payload = buffer.slice(start, end);
    // As any port may do.
    buffer.fill(0xee, start - DATAGRAM_HEADROOM, start);
    this.sent.push(payload);
    this.peer?.deliver(payload);
    return true;
  }

  writable(): Promise<void> {
    return this.isFull ? this.#room.promise : Promise.resolve();
  }

  receive(handler: (payload: Uint8Array<ArrayBuffer>) => void): void {
    this.#handler = handler;
  }

  deliver(payload: Uint8Array<ArrayBuffer>): void {
    this.#handler?.(payload);
  }

  makeRoom(): void {
    this.isFull = false;
    this.#room.resolve();
  }
}

export function sendPacket(end: ConnectIp, packet: Uint8Array): boolean {
  const buffer = new Uint8Array(PACKET_HEADROOM + packet.length);
  buffer.set(packet, PACKET_HEADROOM);
  const taken = end.send(buffer, PACKET_HEADROOM, buffer.length);
  // The buffer is the caller's again.
  buffer.fill(0xbb);
  return taken;
}

/** An end whose tunnel broke is writable and takes nothing, for ever. */
export async function sendWhenWritable(end: ConnectIp, packet: Uint8Array): Promise<void> {
  for (let attempt = 0; !sendPacket(end, packet); attempt++) {
    assert.ok(attempt < 100, "the tunnel takes nothing any more");
    await end.writable();
  }
}

/** A packet of 1,000 bytes that tells its number. */
export function numbered(number: number): Uint8Array<ArrayBuffer> {
  const packet = pattern(1000);
  new DataView(packet.buffer).setUint32(0, number);
  return packet;
}

export function watch(promise: Promise<void>) {
  let done = false;
  promise.then(() => done = true);
  return {
    isDone: async () => {
      await turn();
      return done;
    },
  };
}

/** Lets everything run that waits for nothing but its turn. */
export async function turn(): Promise<void> {
  for (let i = 0; i < 30; i++) await undefined;
}
