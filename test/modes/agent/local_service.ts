/** What the front ends' tests share: an upstream that a fake network leads to, and clients on real sockets. */

import type { FlowTarget } from "../../../src/modes/agent/local_flow.ts";
import { SILENT_LOGGER } from "../../../src/base/log.ts";
import type { ByteChannel } from "../../../src/base/channel.ts";
import { dialUpstream } from "../../../src/io/tcp/dial.ts";
import type { ServiceCatalogue } from "../../../src/core/service/catalogue.ts";
import { type FrontEnd, startFrontEnd } from "../../../src/modes/agent/front_end.ts";
import { catalogueResolver } from "../../../src/modes/agent/local_targets.ts";
import type { SocksContext } from "../../../src/modes/agent/socks5_udp.ts";
import { EchoNetwork } from "./datagram_upstream.ts";

/** A fake network with one upstream behind every service, and one front end. */
export interface LocalService extends AsyncDisposable {
  readonly frontEnd: FrontEnd;
  /** What clients asked for. */
  readonly targets: FlowTarget[];
  /** Where flows of datagrams lead. */
  readonly datagrams: EchoNetwork;
  /** Dials the front end. */
  dial(): Promise<Deno.TcpConn>;
}

/** How the fake network behaves. */
export interface LocalServiceOptions {
  readonly handle: (client: ByteChannel, context: SocksContext) => Promise<void>;
  /** Where flows lead; without it there is no flow. */
  readonly upstreamPort?: number;
  /** Why there is no flow. */
  readonly failure?: unknown;
  readonly handshakeTimeout?: number;
  /** The services by which names are understood. */
  readonly catalogue?: ServiceCatalogue;
}

/** Starts a front end whose flows lead to a local port. */
export function startLocalService(options: LocalServiceOptions): LocalService {
  const { handle, upstreamPort, failure, handshakeTimeout, catalogue } = options;
  const targets: FlowTarget[] = [];
  const datagrams = new EchoNetwork();
  const connect = (target: FlowTarget) => {
    targets.push(target);
    if (upstreamPort === undefined) return Promise.reject(failure);
    return dialUpstream({ kind: "tcp", hostname: "127.0.0.1", port: upstreamPort });
  };
  const frontEnd = startFrontEnd({
    listen: { hostname: "127.0.0.1", port: 0 },
    name: "test",
    logger: SILENT_LOGGER,
    handle: (client, signal, ends) =>
      handle(client, {
        connect,
        connectDatagrams: datagrams.connect,
        targetOf: catalogueResolver(() => catalogue),
        ends,
        logger: SILENT_LOGGER,
        signal,
        ...(handshakeTimeout !== undefined && { handshakeTimeout }),
      }),
  });
  return {
    frontEnd,
    targets,
    datagrams,
    dial: () => Deno.connect({ hostname: "127.0.0.1", port: frontEnd.address.port }),
    [Symbol.asyncDispose]: () => frontEnd.close(),
  };
}

/** Writes all of `bytes`. */
export async function writeAll(conn: Deno.Conn, bytes: Uint8Array): Promise<void> {
  for (let offset = 0; offset < bytes.length;) offset += await conn.write(bytes.subarray(offset));
}

/** Reads exactly `length` bytes. */
export async function readExactly(conn: Deno.Conn, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  for (let offset = 0; offset < length;) {
    const count = await conn.read(bytes.subarray(offset));
    if (count === null) throw new Error(`Ended after ${offset} of ${length} bytes`);
    offset += count;
  }
  return bytes;
}

/** Reads to the end. */
export async function readToEnd(conn: Deno.Conn): Promise<Uint8Array> {
  const parts: number[] = [];
  const buffer = new Uint8Array(4096);
  for (let count = await conn.read(buffer); count !== null; count = await conn.read(buffer)) {
    parts.push(...buffer.subarray(0, count));
  }
  return Uint8Array.from(parts);
}
