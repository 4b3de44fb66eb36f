/**
 * A door before an HTTP server of the platform, which waits for requests without end, takes connections without bound,
 * and takes none any more once descriptors ran out. The door takes as many as fit, carries them to the server over
 * loopback as they are, and sends away who does not ask in time or falls silent.
 */

import type { HostPort } from "../../base/address.ts";
import { callerKey, plainAddress } from "../../base/caller_key.ts";
import { errorMessage } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import { type AcceptedSocket, listenTcp, type SocketListener } from "./listen.ts";
import { type SocketChannel, socketChannel } from "./socket_channel.ts";

/** Bounds of a door. */
export interface DoorLimits {
  /** Connections at once. When it is full, who has most makes room for who has fewer. */
  readonly maxConnections: number;
  /** Milliseconds from the connection to its first request, a TLS handshake included. */
  readonly firstRequestMs: number;
  /** Milliseconds without a byte in either direction. */
  readonly silenceMs: number;
}

/** How to make a door. */
export interface FrontDoorOptions {
  readonly address: HostPort;
  readonly limits?: Partial<DoorLimits>;
  readonly logger: Logger;
}

/** Each connection takes three descriptors: its own, and both ends of the way to the server. */
const DEFAULT_LIMITS: DoorLimits = { maxConnections: 2_000, firstRequestMs: 10_000, silenceMs: 75_000 };

/** Milliseconds between looks for those who are late. */
const SWEEP_MS = 1_000;

/** Milliseconds a caller has to take the server's last answer and close. */
const LINGER_MS = 2_000;

const LOOPBACK = "127.0.0.1";

/** A listening door; it leads nowhere until {@linkcode FrontDoor.leadTo} says where. */
export class FrontDoor implements AsyncDisposable {
  readonly #limits: DoorLimits;
  readonly #logger: Logger;
  readonly #listener: SocketListener;
  readonly #visits = new Map<string, Set<Visit>>();
  /** By the port of loopback from which a connection is carried on. */
  readonly #carried = new Map<number, Visit>();
  readonly #timer: ReturnType<typeof setInterval>;
  readonly #accepting: Promise<void>;
  #size = 0;
  #target: number | undefined;
  #isFull = false;

  /** Listens; throws `ERR_LISTEN_*` when the address cannot be had. */
  constructor({ address, limits, logger }: FrontDoorOptions) {
    this.#limits = { ...DEFAULT_LIMITS, ...limits };
    this.#logger = logger;
    this.#listener = listenTcp(address, {
      onError: (error) => logger.warn("connection_not_accepted", { detail: errorMessage(error) }),
    });
    this.#timer = setInterval(() => this.#sweep(), SWEEP_MS);
    this.#accepting = this.#accept();
  }

  get port(): number {
    return this.#listener.address.port;
  }

  /** Carries new connections to this port of loopback; those that are under way stay where they are. */
  leadTo(port: number): void {
    this.#target = port;
  }

  /**
   * The server has a request on the connection from this port of loopback: returns the address of who makes it.
   * Undefined: somebody on this machine went around the door.
   */
  visitor(port: number): string | undefined {
    const visit = this.#carried.get(port);
    if (visit === undefined) return undefined;
    visit.hasAsked = true;
    return visit.hostname;
  }

  /** Takes no connection any more and ends all. */
  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#timer);
    this.#listener.close();
    await this.#accepting;
    for (const visits of this.#visits.values()) for (const visit of visits) this.#end(visit);
  }

  async #accept(): Promise<void> {
    for await (const socket of this.#listener.connections()) {
      if (this.#hasRoom(callerKey(socket.remote.hostname))) void this.#serve(socket);
      else socket.channel.abort();
    }
  }

  async #serve({ channel, remote }: AcceptedSocket): Promise<void> {
    const time = performance.now();
    const visit: Visit = {
      key: callerKey(remote.hostname),
      hostname: plainAddress(remote.hostname),
      outer: channel,
      inner: undefined,
      since: time,
      heardAt: time,
      endsAt: Infinity,
      hasAsked: false,
      hasEnded: false,
    };
    this.#size++;
    const visits = this.#visits.get(visit.key) ?? new Set();
    this.#visits.set(visit.key, visits.add(visit));
    let port: number | undefined;
    try {
      const conn = await Deno.connect({ hostname: LOOPBACK, port: this.#target ?? 0 });
      const inner = socketChannel(conn);
      port = (conn.localAddr as Deno.NetAddr).port;
      if (visit.hasEnded) return inner.abort();
      visit.inner = inner;
      this.#carried.set(port, visit);
      await Promise.all([
        // What comes after the server has closed is thrown away, so that its last answer is not lost to a reset.
        carry(channel, inner, visit).catch(() => drain(channel)),
        carry(inner, channel, visit).then(() => visit.endsAt = performance.now() + LINGER_MS),
      ]);
    } catch (error) {
      // Either side may break off; the other learns it as it would have directly.
      this.#logger.debug("connection_broke_off", { remote: remote.hostname, detail: errorMessage(error) });
    } finally {
      if (port !== undefined && this.#carried.get(port) === visit) this.#carried.delete(port);
      this.#end(visit);
    }
  }

  #end(visit: Visit): void {
    if (visit.hasEnded) return;
    visit.hasEnded = true;
    visit.outer.abort();
    visit.inner?.abort();
    this.#size--;
    const visits = this.#visits.get(visit.key);
    visits?.delete(visit);
    if (visits?.size === 0) this.#visits.delete(visit.key);
  }

  /** Whether one more of this key may come in; another may have to go for it. */
  #hasRoom(key: string): boolean {
    const { maxConnections } = this.#limits;
    if (this.#size < maxConnections) {
      this.#isFull &&= this.#size > maxConnections / 2;
      return true;
    }
    if (!this.#isFull) this.#logger.warn("connections_full", { connections: this.#size });
    this.#isFull = true;
    const own = this.#visits.get(key)?.size ?? 0;
    let largest: Set<Visit> | undefined;
    for (const visits of this.#visits.values()) {
      if (visits.size > (largest?.size ?? own + 1)) largest = visits;
    }
    if (largest === undefined) return false;
    let silent: Visit | undefined;
    for (const visit of largest) if (visit.heardAt < (silent?.heardAt ?? Infinity)) silent = visit;
    this.#end(silent!);
    return true;
  }

  #sweep(): void {
    const { firstRequestMs, silenceMs } = this.#limits;
    const time = performance.now();
    for (const visits of this.#visits.values()) {
      for (const visit of visits) {
        const isLate = !visit.hasAsked && time - visit.since > firstRequestMs;
        if (isLate || time - visit.heardAt > silenceMs || time > visit.endsAt) this.#end(visit);
      }
    }
  }
}

/** One connection. Times are of the steady clock. */
interface Visit {
  /** Under which it is counted. */
  readonly key: string;
  readonly hostname: string;
  readonly outer: SocketChannel;
  inner: SocketChannel | undefined;
  readonly since: number;
  heardAt: number;
  /** Set once the server has closed. */
  endsAt: number;
  hasAsked: boolean;
  hasEnded: boolean;
}

/** Copies one direction to its end. */
async function carry(from: SocketChannel, to: SocketChannel, visit: Visit): Promise<void> {
  for (let bytes = await from.read(); bytes !== null; bytes = await from.read()) {
    visit.heardAt = performance.now();
    await to.write(bytes);
    visit.heardAt = performance.now();
  }
  await to.closeWrite();
}

async function drain(channel: SocketChannel): Promise<void> {
  while (await channel.read() !== null);
}
