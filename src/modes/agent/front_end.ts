/**
 * One local listener of the agent: accepts clients, hands each to its handler, bounds how many there are.
 */

import { formatHostPort, type HostPort } from "../../base/address.ts";
import type { ByteChannel } from "../../base/channel.ts";
import { errorMessage } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import { listenTcp, type SocketListener } from "../../io/tcp/listen.ts";

/**
 * Clients of one listener at once: local programs, so the bound is there to keep a runaway one from taking all
 * descriptors. About 10 KiB each when idle, 256 KiB when busy.
 */
const DEFAULT_MAX_CLIENTS = 4_096;

/** A front end and how it serves a client. */
export interface FrontEndOptions {
  readonly listen: HostPort;
  /** Name in logs: "forward", "socks5" or "http_proxy". */
  readonly name: string;
  /** Serves one client until it is done; `signal` ends it. */
  readonly handle: (client: ByteChannel, signal: AbortSignal, ends: SocketEnds) => Promise<void>;
  readonly logger: Logger;
  readonly maxClients?: number;
}

/** The two addresses of a client's connection. */
export interface SocketEnds {
  readonly remote: HostPort;
  readonly local: HostPort;
}

/** A running local listener. */
export interface FrontEnd extends AsyncDisposable {
  /** The bound address; its port is the real one when 0 was configured. */
  readonly address: HostPort;
  /** Clients being served now. */
  readonly clients: number;
  /** Takes no new clients; those being served go on. Idempotent. */
  stop(): void;
  /** Stops, ends every client and resolves when all are gone. Idempotent. */
  close(reason?: unknown): Promise<void>;
}

/** Binds the address and serves clients from now on; throws when the address cannot be bound. */
export function startFrontEnd(options: FrontEndOptions): FrontEnd {
  const listener = listenTcp(options.listen, {
    onError: (error) =>
      options.logger.warn("accept_failed", { listener: options.name, reason: errorMessage(error) }),
  });
  return new SocketFrontEnd(listener, options);
}

class SocketFrontEnd implements FrontEnd {
  readonly #listener: SocketListener;
  readonly #options: FrontEndOptions;
  readonly #clients = new Map<AbortController, Promise<void>>();
  readonly #accepting: Promise<void>;

  constructor(listener: SocketListener, options: FrontEndOptions) {
    this.#listener = listener;
    this.#options = options;
    this.#accepting = this.#accept();
    options.logger.info("listening", { listener: options.name, address: formatHostPort(listener.address) });
  }

  get address(): HostPort {
    return this.#listener.address;
  }

  get clients(): number {
    return this.#clients.size;
  }

  stop(): void {
    this.#listener.close();
  }

  async close(reason?: unknown): Promise<void> {
    this.stop();
    for (const ending of this.#clients.keys()) ending.abort(reason);
    await this.#accepting;
    await Promise.all(this.#clients.values());
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #accept(): Promise<void> {
    const { name, logger, maxClients = DEFAULT_MAX_CLIENTS } = this.#options;
    for await (const { channel, ...ends } of this.#listener.connections()) {
      if (this.#clients.size >= maxClients) {
        logger.warn("too_many_clients", { listener: name, limit: maxClients });
        channel.abort();
        continue;
      }
      // A signal of its own: removing a listener from one that all clients share takes longer the more there are.
      const ending = new AbortController();
      this.#clients.set(
        ending,
        this.#serve(channel, { signal: ending.signal, ends }).finally(() => this.#clients.delete(ending)),
      );
    }
  }

  async #serve(
    channel: ByteChannel,
    { signal, ends }: { readonly signal: AbortSignal; readonly ends: SocketEnds },
  ): Promise<void> {
    const { name, handle, logger } = this.#options;
    const onEnd = () => channel.abort(signal.reason);
    signal.addEventListener("abort", onEnd, { once: true });
    try {
      await handle(channel, signal, ends);
    } catch (error) {
      logger.error("client_failed", { listener: name, reason: errorMessage(error) });
      channel.abort(error);
    } finally {
      signal.removeEventListener("abort", onEnd);
    }
  }
}
