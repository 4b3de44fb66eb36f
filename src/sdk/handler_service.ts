/**
 * A service that lives in this process: flows that the network brings go to the runtime's HTTP server, without a port
 * of the machine in between.
 */

import { withSignal } from "../base/async.ts";
import type { ByteChannel } from "../base/channel.ts";
import { FlowRefusedError } from "../dataplane/errors.ts";
import type { CallerWish, OfferedService, Standing, UpstreamTarget } from "../modes/connector/services.ts";
import { CallerServer, type Handler } from "./caller_server.ts";

/** How a service is served. */
export interface HandlerServiceOptions {
  readonly name: string;
  /** Private folder for its sockets. */
  readonly folder: string;
  readonly handler: Handler;
  readonly onError?: ((error: unknown) => Response | Promise<Response>) | undefined;
}

/** Flows open at once. */
const MAX_FLOWS = 10_000;

/** Callers with a server of their own at once; a server without flows takes two descriptors and some 10 KB. */
const MAX_CALLERS = 1_024;

/** Milliseconds for which a caller's server is kept without flows, and between looks for such servers. */
const IDLE_MS = 60_000;

/** One service. */
export class HandlerService implements OfferedService {
  readonly name: string;
  /** Of no use: it takes streams only. */
  readonly idleTimeout = 0;
  readonly #options: HandlerServiceOptions;
  readonly #servers = new Map<string, CallerServer>();
  readonly #closing = new Set<Promise<void>>();
  #made = 0;
  #flows = 0;
  #isEnding = false;
  #sweep: ReturnType<typeof setInterval> | undefined;

  constructor(options: HandlerServiceOptions) {
    this.name = options.name;
    this.#options = options;
  }

  get isHealthy(): boolean {
    return !this.#isEnding;
  }

  get standing(): Standing {
    return { healthy: this.isHealthy, cost: 0, precedence: "default" };
  }

  enter(): boolean {
    if (this.#flows >= MAX_FLOWS) return false;
    this.#flows++;
    return true;
  }

  leave(): void {
    this.#flows--;
  }

  target(): Promise<UpstreamTarget> {
    return Promise.reject(streamsOnly(this.name));
  }

  /** Opens a connection to the caller's own server. */
  dial({ protocol, caller }: CallerWish, signal: AbortSignal): Promise<ByteChannel> {
    if (protocol !== "tcp") return Promise.reject(streamsOnly(this.name));
    if (this.#isEnding) {
      return Promise.reject(new FlowRefusedError("draining", `${this.name} is shutting down`));
    }
    return this.#serverOf(caller).connect(signal);
  }

  /** Takes no more flows, and ends those there are once their requests are answered, or when `signal` fires. */
  async shutdown(signal: AbortSignal): Promise<void> {
    this.#isEnding = true;
    clearInterval(this.#sweep);
    const servers = [...this.#servers.values()];
    this.#servers.clear();
    await Promise.all([...servers.map((server) => endServer(server, signal)), ...this.#closing]);
  }

  #serverOf(caller: string): CallerServer {
    const known = this.#servers.get(caller);
    if (known !== undefined) return known;
    if (this.#servers.size >= MAX_CALLERS) this.#closeIdle(0);
    if (this.#servers.size >= MAX_CALLERS) {
      throw new FlowRefusedError("overloaded", `${this.name} serves ${MAX_CALLERS} callers already`);
    }
    const { name, folder, handler, onError } = this.#options;
    const path = `${folder}/${++this.#made}.sock`;
    const server = new CallerServer({ service: name, caller, path, handler, onError });
    this.#servers.set(caller, server);
    this.#sweep ??= setInterval(() => this.#closeIdle(IDLE_MS), IDLE_MS);
    return server;
  }

  /** Ends the servers that have been without flows for so many milliseconds. */
  #closeIdle(milliseconds: number): void {
    const now = performance.now();
    for (const [caller, server] of this.#servers) {
      if (server.idleSince === undefined || now - server.idleSince < milliseconds) continue;
      this.#servers.delete(caller);
      const closing = server.kill().finally(() => this.#closing.delete(closing));
      this.#closing.add(closing);
    }
    if (this.#servers.size > 0) return;
    clearInterval(this.#sweep);
    this.#sweep = undefined;
  }
}

function streamsOnly(name: string): FlowRefusedError {
  return new FlowRefusedError("denied", `${name} takes streams only`);
}

async function endServer(server: CallerServer, signal: AbortSignal): Promise<void> {
  try {
    await withSignal(server.shutdown(), signal);
  } catch {
    // The time to answer is over.
    await server.kill();
  }
}
