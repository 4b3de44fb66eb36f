/**
 * A process without manners, for a host of a tunnel ground: opens tunnels to a relay as any identity and says on them
 * what it is told, puts packets of its own making into the network, and listens. SOCKET is where `rogue.ts` commands it:
 * one JSON object a line there, and one back.
 */

import { parseHostPort } from "../../src/base/address.ts";
import type { ByteChannel } from "../../src/base/channel.ts";
import { SILENT_LOGGER } from "../../src/base/log.ts";
import { type ClientConnection, DATAGRAM_HEADROOM, type Exchange } from "../../src/dataplane/carrier.ts";
import { loadIdentity } from "../../src/identity/identity_file.ts";
import { createProof } from "../../src/identity/proof.ts";
import { relayServerName } from "../../src/identity/spiffe_id.ts";
import { QuicDialer } from "../../src/io/quic/dialer.ts";
import { dialTls } from "../../src/io/tls/dialer.ts";
import { CapsuleReader, encodeCapsule } from "../../src/wire/capsule/capsule.ts";
import { ipPath } from "../../src/wire/masque/uri.ts";
import type { Heard, OpenOptions, TunnelState } from "./rogue.ts";
import { sendRaw } from "./raw_socket.ts";

const DIAL_TIMEOUT_MS = 20_000;
const DATAGRAM_CAPSULE = 0;
/** Packets and capsules kept for the test; what comes beyond is only counted. */
const MAX_KEPT = 2_000;
/** Longest capsule that a test looks at. */
const MAX_CAPSULE = 1 << 20;

/** What commands carry besides their name. */
interface Command {
  readonly id: number;
  readonly op: keyof typeof OPERATIONS;
  readonly tunnel: number;
  readonly open: OpenOptions;
  /** Base64. */
  readonly parts: readonly string[];
  readonly times: number;
  readonly host: string;
  readonly port: number;
}

/** One request and what came back on it. */
class Tunnel {
  readonly exchange: Exchange;
  readonly #connection: ClientConnection;
  #end: string | undefined;
  #capsules: { type: number; value: string }[] = [];
  #packets: string[] = [];
  #received = 0;

  constructor(connection: ClientConnection, exchange: Exchange, { reads }: { readonly reads: boolean }) {
    this.#connection = connection;
    this.exchange = exchange;
    connection.closed.then(({ reason }) => this.#end ??= `connection closed: ${reason}`);
    if (!reads) return;
    exchange.datagrams.receive((payload) => this.#takePacket(payload.subarray(1)));
    this.#read(exchange.body).then(() => this.#end ??= "clean", (error) => this.#end ??= String(error));
  }

  state(): TunnelState {
    const state = {
      end: this.#end ?? null,
      received: this.#received,
      capsules: this.#capsules,
      packets: this.#packets,
    };
    this.#capsules = [];
    this.#packets = [];
    return state;
  }

  /** Sends payloads of datagrams, waiting for room; returns how many left. */
  async sendDatagrams(payloads: readonly Uint8Array[]): Promise<number> {
    const { datagrams } = this.exchange;
    if (datagrams.maxSize === 0) return 0;
    let sent = 0;
    for (const payload of payloads) {
      if (this.#end !== undefined) break;
      const buffer = new Uint8Array(DATAGRAM_HEADROOM + payload.length);
      buffer.set(payload, DATAGRAM_HEADROOM);
      await datagrams.writable();
      if (datagrams.send(buffer, DATAGRAM_HEADROOM, buffer.length)) sent++;
    }
    return sent;
  }

  async close(): Promise<void> {
    this.exchange.body.abort();
    await this.#connection.close(0x100, "rogue is done");
  }

  async #read(body: ByteChannel): Promise<void> {
    const reader = new CapsuleReader({ maxLength: MAX_CAPSULE });
    for (let bytes = await body.read(); bytes !== null; bytes = await body.read()) {
      reader.push(bytes);
      for (let capsule = reader.next(); capsule !== undefined; capsule = reader.next()) {
        const { type, value } = capsule;
        if (type === DATAGRAM_CAPSULE) this.#takePacket(value.subarray(1));
        else if (this.#capsules.length < MAX_KEPT) this.#capsules.push({ type, value: value.toBase64() });
      }
    }
  }

  #takePacket(packet: Uint8Array): void {
    this.#received++;
    if (this.#packets.length < MAX_KEPT) this.#packets.push(packet.toBase64());
  }
}

const tunnels: Tunnel[] = [];
const heard: Heard[] = [];
const dialer = new QuicDialer({ logger: SILENT_LOGGER });

async function open(options: OpenOptions): Promise<unknown> {
  const { identity: file, relay, address, carrier, target, ipproto, reads } = options;
  const identity = await loadIdentity(file);
  const serverName = relayServerName(relay);
  const signal = AbortSignal.timeout(DIAL_TIMEOUT_MS);
  const where = { address: parseHostPort(address), serverName, roots: identity.trust.roots, signal };
  const connection = await (carrier === "quic" ? dialer.dial(where) : dialTls(where));
  const proof = await createProof({ identity, audience: relay, now: Date.now() });
  const path = ipPath({ target, ipproto });
  const exchange = await connection.request({
    ...{ method: "CONNECT", protocol: "connect-ip", scheme: "https", authority: serverName, path },
    headers: [["capsule-protocol", "?1"], ["authorization", `Bearer ${proof}`]],
  }, { signal });
  const { status, headers } = exchange.head;
  tunnels.push(new Tunnel(connection, exchange, { reads }));
  return { tunnel: tunnels.length - 1, status, proxyStatus: headers.get("proxy-status") ?? "" };
}

async function writeTimes(tunnel: Tunnel, bytes: Uint8Array<ArrayBuffer>, times: number): Promise<number> {
  let written = 0;
  try {
    for (; written < times; written++) await tunnel.exchange.body.write(bytes.slice());
  } catch { /* the relay has ended it: how far we got tells */ }
  return written;
}

/** Accepts TCP connections and UDP packets, and notes who sent what. */
function listen(hostname: string, port: number): void {
  const socket = Deno.listenDatagram({ hostname, port, transport: "udp" });
  const note = (peer: Deno.Addr, bytes: Uint8Array) => {
    const { hostname: from } = peer as Deno.NetAddr;
    heard.push({ from: from.replace(/^::ffff:/, ""), text: new TextDecoder().decode(bytes) });
  };
  void (async () => {
    for (;;) {
      const [bytes, peer] = await socket.receive(new Uint8Array(65_536));
      note(peer, bytes);
    }
  })();
  const listener = Deno.listen({ hostname, port });
  void (async () => {
    for await (const connection of listener) {
      note(connection.remoteAddr, new TextEncoder().encode("tcp"));
      connection.close();
    }
  })();
}

const OPERATIONS = {
  open: ({ open: options }: Command) => open(options),
  send: ({ tunnel, parts }: Command) => tunnels[tunnel]!.sendDatagrams(parts.map((part) => decode(part))),
  capsules: ({ tunnel, parts }: Command) => {
    const capsules = parts.map((part) => encodeCapsule(DATAGRAM_CAPSULE, decode(part)));
    return writeTimes(tunnels[tunnel]!, join(capsules), 1);
  },
  write: ({ tunnel, parts, times }: Command) => writeTimes(tunnels[tunnel]!, join(parts.map(decode)), times),
  state: ({ tunnel }: Command) => tunnels[tunnel]!.state(),
  close: ({ tunnel }: Command) => tunnels[tunnel]!.close(),
  inject: ({ parts }: Command) => parts.map(decode).filter((packet) => sendRaw(packet)).length,
  listen: ({ host, port }: Command) => listen(host, port),
  heard: () => heard.splice(0),
};

function decode(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.fromBase64(text);
}

function join(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const all = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

async function main([socket = ""]: readonly string[]): Promise<void> {
  const control = await Deno.connect({ transport: "unix", path: socket });
  const writer = control.writable.getWriter();
  const run = async (command: Command) => {
    let answer: unknown;
    try {
      answer = { id: command.id, result: await OPERATIONS[command.op](command) ?? null };
    } catch (error) {
      answer = { id: command.id, error: String(error) };
    }
    await writer.write(new TextEncoder().encode(JSON.stringify(answer) + "\n"));
  };
  const decoder = new TextDecoder();
  let rest = "";
  for await (const chunk of control.readable) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) void run(JSON.parse(line));
  }
  Deno.exit(0);
}

if (import.meta.main) await main(Deno.args);
