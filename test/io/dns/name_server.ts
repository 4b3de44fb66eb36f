/** A name server of the test's on loopback, UDP and TCP on one port. */

import { concat } from "../../../src/base/bytes.ts";
import { parseIp } from "../../../src/base/ip.ts";
import type { DnsServer } from "../../../src/io/dns/ask_server.ts";

/** How it answers: messages, sent one after the other. */
export type Behaviour = (
  query: Uint8Array<ArrayBuffer>,
  from: { readonly viaTcp: boolean; readonly port: number },
) => readonly Uint8Array[] | Promise<readonly Uint8Array[]>;

/** The server, and whom it heard. */
export interface NameServer extends AsyncDisposable {
  readonly server: DnsServer & { readonly port: number };
  /** Ports that queries over UDP came from. */
  readonly ports: number[];
  /** Ids of queries over UDP. */
  readonly ids: number[];
  /** Queries over TCP. */
  readonly byTcp: number;
}

/** Starts one. */
export function startNameServer(behaviour: Behaviour, hostname = "127.0.0.1"): NameServer {
  const tcp = Deno.listen({ hostname, port: 0 });
  const { port } = tcp.addr as Deno.NetAddr;
  const udp = Deno.listenDatagram({ transport: "udp", hostname, port });
  const seen = { ports: [] as number[], ids: [] as number[], byTcp: 0 };
  const serveUdp = async () => {
    for await (const [bytes, from] of udp) {
      const query = bytes.slice();
      seen.ports.push((from as Deno.NetAddr).port);
      seen.ids.push((query[0]! << 8) | query[1]!);
      const { port } = from as Deno.NetAddr;
      for (const answer of await behaviour(query, { viaTcp: false, port })) await udp.send(answer, from);
    }
  };
  const serveTcp = async () => {
    for await (const conn of tcp) {
      seen.byTcp++;
      const chunk = new Uint8Array(4_096);
      const count = await conn.read(chunk) ?? 2;
      const { port } = conn.remoteAddr as Deno.NetAddr;
      for (const answer of await behaviour(chunk.slice(2, count), { viaTcp: true, port })) {
        await conn.write(concat([Uint8Array.of(answer.length >> 8, answer.length & 0xff), answer]));
      }
      conn.close();
    }
  };
  const running = [serveUdp(), serveTcp()];
  return {
    server: { address: parseIp(hostname)!, port },
    ports: seen.ports,
    ids: seen.ids,
    get byTcp() {
      return seen.byTcp;
    },
    [Symbol.asyncDispose]: async () => {
      udp.close();
      tcp.close();
      await Promise.all(running);
    },
  };
}

/** A response to a query: the same bytes with these flags, and perhaps more behind them. */
export function respond(query: Uint8Array, flags = 0x8180, tail = new Uint8Array()): Uint8Array<ArrayBuffer> {
  const bytes = concat([query, tail]);
  bytes[2] = flags >> 8;
  bytes[3] = flags & 0xff;
  return bytes;
}
