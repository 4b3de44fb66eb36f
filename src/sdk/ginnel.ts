/**
 * Ginnel inside a Deno program: offer services that have no port anywhere, and reach others by name, as one identity
 * and without an agent or a connector on the machine.
 */

import { type HostPort, parseHostPort } from "../base/address.ts";
import { GinnelError } from "../base/errors.ts";
import { type Logger, SILENT_LOGGER } from "../base/log.ts";
import { FlowDialer } from "../modes/agent/flow_dialer.ts";
import { SessionPool } from "../modes/agent/sessions.ts";
import { Node, type NodeConfig } from "../modes/shared/node.ts";
import { BindSide } from "./bind_side.ts";
import type { Handler } from "./caller_server.ts";
import { destinationOf } from "./destination.ts";
import { fetchWithin } from "./fetch_within.ts";
import { type FlowConn, flowConn } from "./flow_stream.ts";
import { HandlerService } from "./handler_service.ts";
import { HttpDoor } from "./http_door.ts";
import { PrivateFolder } from "./private_folder.ts";

/** How to join a network. */
export interface OpenOptions {
  /** Relays to use, `address` being `host:port`; default: those that the network lists. */
  readonly relays?: readonly { readonly name: string; readonly address: string }[];
  /** How to reach relays: `auto` (default) takes QUIC where it gets through, TLS over TCP otherwise. */
  readonly carrier?: NodeConfig["carrier"];
  /** Where to log; default: nowhere. */
  readonly logger?: Logger;
}

/** What to serve a name with. */
export interface ServeOptions {
  readonly handler: Handler;
  /** Makes the response where the handler throws; default: 500. */
  readonly onError?: (error: unknown) => Response | Promise<Response>;
}

/** A service that is being offered. */
export interface ServedService extends AsyncDisposable {
  readonly name: string;
  /** Resolves when a relay has taken it: from then on it can be reached. */
  readonly ready: Promise<void>;
  /** Resolves when it has been shut down. */
  readonly finished: Promise<void>;
  /** Takes no more requests, and resolves when those under way are answered, at the latest after 10 s. */
  shutdown(): Promise<void>;
}

/** A service that this identity may reach. */
export interface ReachableService {
  readonly name: string;
  /** Its name for `fetch` and programs. */
  readonly host: string;
  readonly endToEnd: "required" | "optional";
}

/** Milliseconds that requests under way get when a service is shut down. */
const DRAIN_MS = 10_000;

/** Milliseconds to wait for the first signed list of services. */
const VIEW_WAIT_MS = 5_000;

/** A network, joined as one identity. */
export class Ginnel implements AsyncDisposable {
  /** Resolves when the network has been left. */
  readonly closed: Promise<void>;
  readonly #node: Node;
  readonly #folder: PrivateFolder;
  readonly #sessions: SessionPool;
  readonly #dialer: FlowDialer;
  readonly #bindSide: BindSide;
  readonly #served = new Set<ServedService>();
  readonly #listeners = new Set<() => void>();
  readonly #stop = new AbortController();
  #door: HttpDoor | undefined;
  #made = 0;
  #closing: Promise<void> | undefined;
  #resolveClosed: () => void = () => {};

  /**
   * Joins with an identity file, or with the files of an SVID. Resolves when the identity is read; relays are then
   * connected, and connected again, for as long as the network is open.
   */
  static async open(identity: NodeConfig["identity"], options: OpenOptions = {}): Promise<Ginnel> {
    const { relays = [], carrier = "auto", logger = SILENT_LOGGER } = options;
    const places = relays.map(({ name, address }) => ({ name, address: readAddress(address) }));
    const node = await Node.create({ identity, relays: places, carrier }, { logger });
    try {
      return new Ginnel(node, await PrivateFolder.create());
    } catch (error) {
      await node.close();
      throw error;
    }
  }

  private constructor(node: Node, folder: PrivateFolder) {
    this.closed = new Promise((resolve) => this.#resolveClosed = resolve);
    this.#node = node;
    this.#folder = folder;
    const { logger, views } = node;
    this.#sessions = new SessionPool({ identity: () => node.identity, trust: () => node.trust(), logger });
    this.#dialer = new FlowDialer({ relays: () => node.clients, views, sessions: this.#sessions, logger });
    this.#bindSide = new BindSide(node);
    views.onChange(() => this.#changed());
    node.onChange(({ certificate, trust }) => {
      for (const part of [this.#sessions, this.#bindSide]) {
        if (certificate) part.renew();
        if (trust) part.recheck();
      }
    });
    node.connect((client) => {
      const events = this.#bindSide.relay(client);
      return {
        ...events,
        onConnected: async (connection) => {
          await events.onConnected(connection);
          this.#changed();
        },
        onLost: () => {
          events.onLost();
          this.#changed();
        },
      };
    });
  }

  /** SPIFFE ID of this identity. */
  get id(): string {
    return this.#node.identity.id.uri;
  }

  /** Whether a relay is connected now. */
  get isConnected(): boolean {
    return this.#node.clients.some(({ connection }) => connection !== undefined);
  }

  /** The services that this identity may reach now; empty until the network has said so. */
  services(): readonly ReachableService[] {
    const { views } = this.#node;
    const zone = views.network?.zone ?? "ginnel.internal";
    return views.dialable().map(({ service, endToEnd }) => ({
      name: service,
      host: `${service}.${zone}`,
      endToEnd,
    }));
  }

  /** Calls back when relays come or go, or other services may be reached; returns the way to stop. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /**
   * Offers an HTTP and WebSocket service (`Deno.upgradeWebSocket`) as `Deno.serve` does, but on no port: callers that
   * policy allows reach the handler, and nobody else can see that it exists. The identity has to be a connector's or a
   * workload's, and policy has to let it Bind the name.
   */
  serve(name: string, service: Handler | ServeOptions): ServedService {
    this.#assertOpen();
    const { kind, uri } = this.#node.identity.id;
    if (kind !== "connector" && kind !== "workload") {
      throw new GinnelError("ERR_MAY_NOT_SERVE", `${uri} cannot offer services`, {
        hint: "open the network with an identity of type connector",
      });
    }
    const { handler, onError } = typeof service === "function" ? { handler: service } : service;
    const folder = `${this.#folder.path}/${++this.#made}`;
    Deno.mkdirSync(folder, { mode: 0o700 });
    const offered = new HandlerService({ name, folder, handler, onError });
    const ready = Promise.withResolvers<void>();
    this.#bindSide.add(offered, () => ready.resolve());
    // Nobody has to wait for it.
    ready.promise.catch(() => {});
    const finished = Promise.withResolvers<void>();
    let stopping: Promise<void> | undefined;
    const shutdown = () =>
      stopping ??= (async () => {
        this.#bindSide.remove(name);
        ready.reject(new GinnelError("ERR_STOPPED", `${name} is served no more`));
        await offered.shutdown(AbortSignal.timeout(DRAIN_MS));
        this.#served.delete(served);
        finished.resolve();
      })();
    const served: ServedService = {
      name,
      ready: ready.promise,
      finished: finished.promise,
      shutdown,
      [Symbol.asyncDispose]: shutdown,
    };
    this.#served.add(served);
    return served;
  }

  /** Opens a connection to a service, named as `NAME`, `NAME.ZONE` or by a host of its `intercept.v1`. */
  async dial(
    service: string,
    options: { readonly port?: number; readonly signal?: AbortSignal } = {},
  ): Promise<FlowConn> {
    this.#assertOpen();
    const { port, signal } = options;
    const stop = this.#stop.signal;
    await this.#knowServices();
    const target = destinationOf(service, {
      services: this.#node.views,
      ...(port === undefined ? {} : { port }),
    });
    const flow = await this.#dialer.connect(target, {
      signal: signal === undefined ? stop : AbortSignal.any([signal, stop]),
    });
    return flowConn(flow);
  }

  /**
   * `fetch` within this network: the URL's host is a service. It never leads to another network, not by a redirect
   * either. Rejects with the reason where the service cannot be reached.
   */
  async fetch(input: string | URL | Request, init?: RequestInit): Promise<Response> {
    this.#assertOpen();
    await this.#knowServices();
    const door = this.#openDoor();
    return await fetchWithin(new Request(input, init), {
      assertOurs: (url) => void this.#destination(url),
      send: async (request) => await door.unwrap(await fetch(request, { client: door.client })),
    });
  }

  /** Opens a WebSocket to a service, `ws://NAME.ZONE/…`. */
  webSocket(url: string | URL, protocols: string | string[] = []): WebSocket {
    this.#assertOpen();
    const target = new URL(url);
    if (target.protocol !== "ws:") throw notSealedTwice(target);
    this.#destination(target);
    return new WebSocket(target, { protocols: [protocols].flat(), client: this.#openDoor().client });
  }

  /** Leaves the network: services are shut down, flows end. Idempotent. */
  close(): Promise<void> {
    return this.#closing ??= this.#close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    await Promise.all([...this.#served].map((served) => served.shutdown()));
    this.#stop.abort(stopped());
    await this.#door?.[Symbol.asyncDispose]();
    this.#dialer.close();
    this.#bindSide.close("network closed");
    this.#sessions.close("network closed");
    await this.#node.close();
    await this.#folder[Symbol.asyncDispose]();
    this.#listeners.clear();
    this.#resolveClosed();
  }

  #openDoor(): HttpDoor {
    return this.#door ??= new HttpDoor({
      folder: this.#folder.path,
      connect: (url, signal) => this.#dialer.connect(this.#destination(url), { signal }),
      logger: this.#node.logger,
    });
  }

  #destination(url: URL): ReturnType<typeof destinationOf> {
    if (url.protocol !== "http:" && url.protocol !== "ws:") throw notSealedTwice(url);
    return destinationOf(url.hostname, {
      port: url.port === "" ? 80 : Number(url.port),
      services: this.#node.views,
    });
  }

  /** Right after the start the list of services may still be on its way. */
  async #knowServices(): Promise<void> {
    const { views } = this.#node;
    if (!views.isValid) await views.waitFor(() => views.isValid, VIEW_WAIT_MS);
  }

  #assertOpen(): void {
    if (this.#closing !== undefined) throw stopped();
  }

  #changed(): void {
    for (const listener of this.#listeners) listener();
  }
}

function stopped(): GinnelError {
  return new GinnelError("ERR_STOPPED", "The network was closed");
}

function notSealedTwice({ protocol }: URL): GinnelError {
  return new GinnelError("ERR_SCHEME", `Cannot use ${protocol} within the network`, {
    hint: "use http: or ws:; what they carry is sealed end to end",
  });
}

function readAddress(text: string): HostPort {
  const address = parseHostPort(text);
  if (address.port === 0) throw new SyntaxError(`Cannot dial port 0 of ${text}`);
  return address;
}
