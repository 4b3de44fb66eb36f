/**
 * Somebody at a controller's port who keeps to no manners of a client: says whatever bytes it likes over TLS, slowly or
 * without end, from any address of loopback.
 */

import { connect as connectTcp, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";

/** Where to call, and from where. */
export interface StrangerOptions {
  readonly port: number;
  /** An address of loopback; default 127.0.0.1. */
  readonly from?: string;
  /** False: stays below TLS. */
  readonly isTls?: boolean;
  /** Protocols offered; default HTTP/1.1. */
  readonly alpn?: readonly string[];
}

/** What to ask for. */
export interface StrangerRequest {
  readonly path: string;
  readonly method?: string;
  readonly token?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** Sent as JSON. */
  readonly body?: unknown;
}

/** An answer. */
export interface StrangerAnswer {
  readonly status: number;
  /** Head and body. */
  readonly text: string;
}

/** One connection. */
export class Stranger implements Disposable {
  heard = "";
  /** Bytes the other end has let it say. */
  said = 0;
  isClosed = false;
  readonly closed: Promise<void>;
  readonly #socket: Socket;

  /** Resolves when it is connected, or was refused. */
  static async connect(options: StrangerOptions): Promise<Stranger> {
    const { port, from = "127.0.0.1", isTls = true, alpn = ["http/1.1"] } = options;
    const place = { host: "127.0.0.1", port, localAddress: from };
    const socket: Socket = isTls
      // Whom it talks to does not matter to it.
      ? connectTls({ ...place, rejectUnauthorized: false, ALPNProtocols: [...alpn] })
      : connectTcp(place);
    const stranger = new Stranger(socket);
    const connected = new Promise<void>((resolve) =>
      socket.once(isTls ? "secureConnect" : "connect", resolve)
    );
    await Promise.race([connected, stranger.closed]);
    return stranger;
  }

  /** Asks one thing on a connection of its own. */
  static async ask(options: StrangerOptions, request: StrangerRequest): Promise<StrangerAnswer> {
    using stranger = await Stranger.connect(options);
    const { path, method = "GET", token, headers = {}, body } = request;
    const text = body === undefined ? "" : JSON.stringify(body);
    const fields = {
      host: "controller",
      connection: "close",
      ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
      ...(body === undefined ? {} : {
        "content-type": "application/json",
        "content-length": String(new TextEncoder().encode(text).length),
      }),
      ...headers,
    };
    const head = Object.entries(fields).map(([name, value]) => `${name}: ${value}\r\n`).join("");
    await stranger.say(`${method} ${path} HTTP/1.1\r\n${head}\r\n${text}`);
    await stranger.closed;
    return { status: Number(/^HTTP\/1\.1 (\d{3})/.exec(stranger.heard)?.[1]), text: stranger.heard };
  }

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.on("data", (data: Uint8Array) => this.heard += new TextDecoder().decode(data));
    socket.on("error", () => {/* sent away: `closed` says so */});
    this.closed = new Promise((resolve) =>
      socket.once("close", () => {
        this.isClosed = true;
        resolve();
      })
    );
  }

  /** Resolves when the bytes were taken, or never will be. */
  async say(text: string): Promise<void> {
    if (this.isClosed || this.#socket.destroyed) return;
    const taken = new Promise<void>((resolve) =>
      this.#socket.write(text, (error) => {
        if (error === undefined || error === null) this.said += text.length;
        resolve();
      })
    );
    await Promise.race([taken, this.closed]);
  }

  /** Says something again and again, until there is an answer or an end, at most so often. */
  async flood(text: string, times: number): Promise<void> {
    for (let n = 0; n < times && this.heard === "" && !this.isClosed; n++) await this.say(text);
  }

  [Symbol.dispose](): void {
    this.#socket.destroy();
  }
}
