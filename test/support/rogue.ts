/**
 * Commands a `rogue_host.ts` on a host of a tunnel ground: what a test lets a hostile peer, or a hostile internet, do.
 * The two talk over a Unix socket, which reaches across network namespaces.
 */

import { encodeCapsule } from "../../src/wire/capsule/capsule.ts";
import { decodeAddressAssign, decodeRouteAdvertisement } from "../../src/wire/capsule/connect_ip.ts";
import { formatIp, formatPrefix, rangeToPrefixes } from "../../src/base/ip.ts";
import { RELAY_NAME } from "./deployment.ts";
import { eventually } from "./eventually.ts";
import type { ManagedProcess } from "./processes.ts";
import type { Stage } from "./tunnel_hosts.ts";

/** How to open a tunnel; the identity is a file. */
export interface OpenOptions {
  readonly identity: string;
  readonly relay: string;
  readonly address: string;
  readonly carrier: "quic" | "tls";
  readonly target: string;
  readonly ipproto: number | "*";
  /** False: nothing that comes back is ever read. */
  readonly reads: boolean;
}

/** What came back on a tunnel since the last look. */
export interface TunnelState {
  /** How it ended; null while it has not, as far as somebody sees who may not even read. */
  readonly end: string | null;
  /** Packets that came, all in all. */
  readonly received: number;
  /** Values in base64. */
  readonly capsules: readonly { readonly type: number; readonly value: string }[];
  /** In base64. */
  readonly packets: readonly string[];
}

/** What a listener of the rogue got: a datagram's text, or `tcp` for a connection. */
export interface Heard {
  readonly from: string;
  readonly text: string;
}

/** Capsule types of RFC 9484 §4.7. */
export const CAPSULE = { assign: 1, request: 2, routes: 3 } as const;

/** Where a rogue can live. */
export interface RogueGround<N extends string> extends Stage<N> {
  /** Folder for its socket. */
  readonly folder: string;
  /** Where relay-1 is. */
  readonly relayAddress: string;
  /** The identity file of the agent of that name. */
  identity(name: string): Promise<string>;
}

let sockets = 0;

/** A process that does as it is told on one host; disposing it ends it. */
export class Rogue implements AsyncDisposable {
  readonly process: ManagedProcess;
  readonly #ground: Pick<RogueGround<never>, "identity" | "relayAddress">;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array<ArrayBuffer>>;
  readonly #waiting = new Map<number, PromiseWithResolvers<unknown>>();
  readonly #reading: Promise<void>;
  #commands = 0;

  private constructor(
    ground: Pick<RogueGround<never>, "identity" | "relayAddress">,
    process: ManagedProcess,
    socket: Deno.UnixConn,
  ) {
    this.#ground = ground;
    this.process = process;
    this.#writer = socket.writable.getWriter();
    this.#reading = this.#read(socket.readable).catch(() => {/* it has ended */});
  }

  /** Starts it on a host. */
  static async start<N extends string>(ground: RogueGround<N>, host: N): Promise<Rogue> {
    const path = `${ground.folder}/rogue-${sockets++}.sock`;
    using listener = Deno.listen({ transport: "unix", path });
    const script = new URL("./rogue_host.ts", import.meta.url).pathname;
    const process = ground.spawn(host, [
      ...[Deno.execPath(), "run", "--quiet", "--no-check", "--allow-all", "--unstable-net", script, path],
    ]);
    // One that does not start would be waited for until the test's end.
    const ended = process.ended.then(() => Promise.reject(new Error(process.lines.join("\n"))));
    ended.catch(() => {/* looked at below, or the end that was wanted */});
    return new Rogue(ground, process, await Promise.race([listener.accept(), ended]));
  }

  /** Asks for a tunnel as an agent of that name; whatever the answer is. */
  async ask(
    name: string,
    options: Partial<OpenOptions> = {},
  ): Promise<{ readonly tunnel: number; readonly status: number; readonly proxyStatus: string }> {
    const open: OpenOptions = {
      identity: await this.#ground.identity(name),
      relay: RELAY_NAME,
      address: this.#ground.relayAddress,
      carrier: "quic",
      target: "*",
      ipproto: "*",
      reads: true,
      ...options,
    };
    return await this.#command({ op: "open", open }) as Awaited<ReturnType<Rogue["ask"]>>;
  }

  /** Opens a tunnel; resolves when the relay has told addresses and routes, unless nothing is read. */
  async open(name: string, options: Partial<OpenOptions> = {}): Promise<RogueTunnel> {
    const { tunnel, status, proxyStatus } = await this.ask(name, options);
    if (status !== 200) throw new Error(`The relay answered ${status} to ${name}: ${proxyStatus}`);
    const opened = new RogueTunnel((command) => this.#command({ tunnel, ...command }));
    if (options.reads !== false) await opened.untilTold();
    return opened;
  }

  /** Puts packets onto the host's own network; resolves with how many the kernel took. */
  async inject(packets: readonly Uint8Array[]): Promise<number> {
    return await this.#command({ op: "inject", parts: base64(packets) }) as number;
  }

  /** Takes TCP connections and datagrams. */
  async listen(host: string, port: number): Promise<void> {
    await this.#command({ op: "listen", host, port });
  }

  /** What came to the listeners since the last look. */
  async heard(): Promise<Heard[]> {
    return await this.#command({ op: "heard" }) as Heard[];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.process.stop({ signal: "SIGKILL" });
    await this.#writer.abort().catch(() => {/* it is closed */});
    await this.#reading;
  }

  async #command(command: Readonly<Record<string, unknown>>): Promise<unknown> {
    const id = this.#commands++;
    const answer = Promise.withResolvers<unknown>();
    this.#waiting.set(id, answer);
    await this.#writer.write(new TextEncoder().encode(JSON.stringify({ id, ...command }) + "\n"));
    return await answer.promise;
  }

  async #read(readable: ReadableStream<Uint8Array>): Promise<void> {
    let rest = "";
    const decoder = new TextDecoder();
    for await (const chunk of readable) {
      const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) {
        const { id, result, error } = JSON.parse(line);
        if (error === undefined) this.#waiting.get(id)?.resolve(result);
        else this.#waiting.get(id)?.reject(new Error(error));
        this.#waiting.delete(id);
      }
    }
  }
}

/** A tunnel of a rogue. What comes is remembered until somebody takes it. */
export class RogueTunnel {
  readonly #command: (command: Readonly<Record<string, unknown>>) => Promise<unknown>;
  /** The addresses it was last told, IPv4 first where it has both. */
  addresses: readonly string[] = [];
  /** The routes it was last told, as `PREFIX` or `PREFIX PROTOCOL`. */
  routes: readonly string[] = [];
  /** All capsules so far, but those with packets. */
  readonly capsules: { readonly type: number; readonly value: Uint8Array<ArrayBuffer> }[] = [];
  #packets: Uint8Array<ArrayBuffer>[] = [];

  constructor(command: (command: Readonly<Record<string, unknown>>) => Promise<unknown>) {
    this.#command = command;
  }

  /** The address from which it may send to `destination`. */
  addressFor(destination: string): string {
    const found = this.addresses.find((address) => address.includes(":") === destination.includes(":"));
    if (found === undefined) throw new Error(`It has no address to reach ${destination} from`);
    return found;
  }

  /** Resolves when addresses and routes were told. */
  async untilTold(): Promise<void> {
    await eventually(async () => {
      await this.look();
      return [CAPSULE.assign, CAPSULE.routes].every((type) => this.capsules.some((one) => one.type === type));
    });
  }

  /** Takes in what came; returns how the tunnel ended, null while it has not. */
  async look(): Promise<string | null> {
    const { end, capsules, packets } = await this.#command({ op: "state" }) as TunnelState;
    for (const { type, value: text } of capsules) {
      const value = Uint8Array.fromBase64(text);
      this.capsules.push({ type, value });
      if (type === CAPSULE.assign) {
        this.addresses = decodeAddressAssign(value).map(({ address }) => formatIp(address));
      }
      if (type === CAPSULE.routes) {
        this.routes = decodeRouteAdvertisement(value).flatMap(({ range, protocol }) =>
          rangeToPrefixes(range).map((prefix) =>
            formatPrefix(prefix) + (protocol === 0 ? "" : ` ${protocol}`)
          )
        );
      }
    }
    this.#packets.push(...packets.map((text) => Uint8Array.fromBase64(text)));
    return end;
  }

  /** The packets that came since the last call. */
  async packets(): Promise<Uint8Array<ArrayBuffer>[]> {
    await this.look();
    const packets = this.#packets;
    this.#packets = [];
    return packets;
  }

  /** Sends packets as datagrams; resolves with how many left. */
  send(...packets: readonly Uint8Array[]): Promise<number> {
    return this.sendPayloads(packets.map((packet) => new Uint8Array([0, ...packet])));
  }

  /** Sends payloads of datagrams, context id and all. */
  async sendPayloads(payloads: readonly Uint8Array[]): Promise<number> {
    return await this.#command({ op: "send", parts: base64(payloads) }) as number;
  }

  /** Sends payloads in DATAGRAM capsules on the stream. */
  async sendCapsules(payloads: readonly Uint8Array[]): Promise<void> {
    await this.#command({ op: "capsules", parts: base64(payloads) });
  }

  /** Writes one capsule. */
  async capsule(type: number, value: Uint8Array): Promise<void> {
    await this.write(encodeCapsule(type, value));
  }

  /** Writes bytes onto the stream, again and again; resolves with how often it was done. */
  async write(bytes: Uint8Array, times = 1): Promise<number> {
    return await this.#command({ op: "write", parts: base64([bytes]), times }) as number;
  }

  /** Resolves with how the relay ended it. */
  untilEnded(): Promise<string> {
    return eventually(() => this.look());
  }

  /** Ends it with its connection. */
  async close(): Promise<void> {
    await this.#command({ op: "close" });
  }
}

function base64(parts: readonly Uint8Array[]): string[] {
  return parts.map((part) => new Uint8Array(part).toBase64());
}
