/**
 * The unix socket at which a running node says how it is. Whoever may open it may know all that; nobody can change
 * anything.
 */

import { dirname } from "node:path";
import { errorMessage, GinnelError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";

/** What the socket needs. */
export interface ControlSocketOptions {
  readonly path: string;
  /** How the node is, as JSON. */
  readonly status: () => Promise<unknown>;
  readonly logger: Logger;
}

/** The running socket. */
export class ControlSocket implements AsyncDisposable {
  readonly path: string;
  readonly #server: Deno.HttpServer<Deno.UnixAddr>;
  #closed: Promise<void> | undefined;

  /** Starts to listen; rejects with `ERR_CONTROL_SOCKET` when that cannot be. */
  static async start(options: ControlSocketOptions): Promise<ControlSocket> {
    const { path } = options;
    try {
      await Deno.mkdir(dirname(path), { recursive: true, mode: 0o700 });
      await removeStale(path);
      return new ControlSocket(options);
    } catch (cause) {
      const reason = cause instanceof Deno.errors.AddrInUse
        ? "another node listens there"
        : errorMessage(cause);
      throw new GinnelError("ERR_CONTROL_SOCKET", `Cannot listen on unix:${path}: ${reason}`, {
        cause,
        hint: `Set "control" in the config to another unix socket, or to null`,
      });
    }
  }

  private constructor({ path, status, logger }: ControlSocketOptions) {
    this.path = path;
    // The socket is its owner's alone from the first moment on.
    const before = Deno.umask(0o177);
    try {
      this.#server = Deno.serve({ path, onListen: () => {} }, async (request) => {
        try {
          return await answer(request, status);
        } catch (error) {
          logger.error("status_failed", { reason: errorMessage(error) });
          return reply(500, { error: "the status could not be told; the node's log says why" });
        }
      });
    } finally {
      Deno.umask(before);
    }
    logger.debug("control_listening", { path });
  }

  /** Stops, which removes the socket. Idempotent. */
  close(): Promise<void> {
    return this.#closed ??= this.#server.shutdown();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

async function answer(request: Request, status: () => Promise<unknown>): Promise<Response> {
  if (new URL(request.url).pathname !== "/status") return reply(404, { error: "there is only /status" });
  if (request.method !== "GET") return reply(405, { error: "GET only" });
  return reply(200, await status());
}

function reply(status: number, content: unknown): Response {
  const headers = { "content-type": "application/json", "cache-control": "no-store" };
  return new Response(JSON.stringify(content) + "\n", { status, headers });
}

/** A socket outlives a killed process; nobody answers on it, so it may go. Any other file stays, and is in the way. */
async function removeStale(path: string): Promise<void> {
  try {
    if ((await Deno.lstat(path)).isSocket !== true) return;
    (await Deno.connect({ transport: "unix", path })).close();
  } catch (error) {
    if (error instanceof Deno.errors.ConnectionRefused) await Deno.remove(path);
    else if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
}
