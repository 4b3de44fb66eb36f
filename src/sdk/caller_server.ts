/**
 * The runtime's own HTTP server for one caller of one service, on a unix socket in a private folder. Each caller has a
 * socket of its own, so that a request's caller is known by where it came in: no header says it, none can forge it.
 */

import type { ByteChannel } from "../base/channel.ts";
import { dialUpstream } from "../io/tcp/dial.ts";

/** Who asks, and what there is to know of a request beside itself. */
export interface RequestInfo {
  /** SPIFFE ID of the caller, which proved itself to this process end to end. */
  readonly caller: string;
  /** The service that was asked for. */
  readonly service: string;
  /** Resolves when the response was sent, rejects when that failed. */
  readonly completed: Promise<void>;
}

/** Answers a request. */
export type Handler = (request: Request, info: RequestInfo) => Response | Promise<Response>;

/** What to serve. */
export interface CallerServerOptions {
  readonly service: string;
  readonly caller: string;
  /** Where the socket goes; its folder is private. */
  readonly path: string;
  readonly handler: Handler;
  /** Makes the response where the handler throws; default: 500. */
  readonly onError?: ((error: unknown) => Response | Promise<Response>) | undefined;
}

/** One caller's server. */
export class CallerServer {
  readonly #path: string;
  readonly #server: Deno.HttpServer;
  readonly #kill = new AbortController();
  #open = 0;
  #idleSince = performance.now();

  constructor({ service, caller, path, handler, onError }: CallerServerOptions) {
    this.#path = path;
    this.#server = Deno.serve(
      {
        path,
        signal: this.#kill.signal,
        onListen: () => {},
        ...(onError === undefined ? {} : { onError }),
      },
      (request, { completed }) => handler(request, { caller, service, completed }),
    );
  }

  /** Since when, in milliseconds of `performance.now`, no flow has been open; undefined while one is. */
  get idleSince(): number | undefined {
    return this.#open === 0 ? this.#idleSince : undefined;
  }

  /** Opens a connection to the server for one flow. */
  async connect(signal: AbortSignal): Promise<ByteChannel> {
    this.#open++;
    const left = () => {
      this.#open--;
      this.#idleSince = performance.now();
    };
    try {
      const channel = await dialUpstream({ kind: "unix", path: this.#path }, { signal });
      void channel.closed.then(left);
      return channel;
    } catch (error) {
      left();
      throw error;
    }
  }

  /** Takes no more requests, and resolves when those under way are answered. */
  async shutdown(): Promise<void> {
    await this.#server.shutdown();
  }

  /** Ends everything at once. */
  async kill(): Promise<void> {
    this.#kill.abort();
    await this.#server.finished;
  }
}
