/**
 * The health endpoint: liveness at `/health`, readiness with reasons at `/ready`, over TCP or a unix socket.
 */

import { formatHostPort, type Upstream } from "../base/address.ts";
import { GinnelError } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import { VERSION } from "../base/version.ts";

/** Liveness: 200 as long as the process answers. */
const LIVE_PATHS: ReadonlySet<string> = new Set(["/health", "/healthz", "/health/live"]);
/** Readiness: 200 when the node does its work, else 503 with the reasons. */
const READY_PATHS: ReadonlySet<string> = new Set(["/ready", "/readyz", "/health/ready"]);

/** Owner and group may ask; the socket tells no secrets but need not be everyone's. */
const SOCKET_MODE = 0o660;

/** What the server needs. */
export interface HealthOptions {
  readonly address: Upstream;
  readonly logger: Logger;
  /** Asked at each request: what is wrong although the node works, as short phrases. */
  readonly degraded?: () => readonly string[];
  /** Milliseconds on a steady clock; default `performance.now`. */
  readonly now?: () => number;
}

/** A running health server. The node starts out not ready. */
export class HealthServer implements AsyncDisposable {
  /** Where it listens, with the real port when 0 was asked for. */
  readonly address: Upstream;
  readonly #server: Deno.HttpServer<Deno.Addr>;
  readonly #state: NodeState;
  #closed: Promise<void> | undefined;

  /** Starts the server; rejects with `ERR_LISTEN_*` when its address cannot be bound. */
  static async start(options: HealthOptions): Promise<HealthServer> {
    const { address, logger, degraded = () => [], now = () => performance.now() } = options;
    const started = now();
    const state: NodeState = { unready: "starting", degraded, uptime: () => (now() - started) / 1_000 };
    const server = await listen(address, (request) => answer(request, state));
    const health = new HealthServer(server, { address: boundAddress(server, address), state });
    logger.info("health_listening", { address: addressText(health.address) });
    return health;
  }

  private constructor(
    server: Deno.HttpServer<Deno.Addr>,
    parts: { readonly address: Upstream; readonly state: NodeState },
  ) {
    this.#server = server;
    this.#state = parts.state;
    this.address = parts.address;
  }

  /** The node does its work. */
  setReady(): void {
    this.#state.unready = undefined;
  }

  /** The node cannot do its work: a short phrase says why, without addresses or names of users. */
  setUnready(reason: string): void {
    this.#state.unready = reason;
  }

  /** Stops the server; resolves when running answers are out. Idempotent. */
  close(): Promise<void> {
    this.#closed ??= this.#server.shutdown();
    return this.#closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

interface NodeState {
  /** Why the node is not ready; undefined when it is. */
  unready: string | undefined;
  readonly degraded: () => readonly string[];
  /** Seconds since the start. */
  readonly uptime: () => number;
}

function answer(request: Request, state: NodeState): Response {
  const { pathname } = new URL(request.url);
  const isLive = LIVE_PATHS.has(pathname);
  if (!isLive && !READY_PATHS.has(pathname)) return reply(request, 404, { status: "no such page" });
  if (request.method !== "GET" && request.method !== "HEAD") {
    return reply(request, 405, { status: "only GET" }, { allow: "GET, HEAD" });
  }
  const common = { version: VERSION, uptimeSeconds: Math.round(state.uptime() * 10) / 10 };
  if (isLive) return reply(request, 200, { status: "ok", ...common });
  const degraded = state.degraded();
  if (state.unready !== undefined) {
    return reply(request, 503, { status: "not ready", reason: state.unready, degraded, ...common });
  }
  return reply(request, 200, { status: degraded.length > 0 ? "degraded" : "ready", degraded, ...common });
}

function reply(
  request: Request,
  status: number,
  content: Readonly<Record<string, unknown>>,
  headers: Readonly<Record<string, string>> = {},
): Response {
  const body = request.method === "HEAD" ? null : JSON.stringify(content) + "\n";
  return new Response(body, {
    status,
    headers: { "content-type": "application/json", "cache-control": "no-store", ...headers },
  });
}

type Handler = (request: Request) => Response;

async function listen(address: Upstream, handler: Handler): Promise<Deno.HttpServer<Deno.Addr>> {
  const onListen = () => {};
  try {
    if (address.kind === "tcp") {
      return Deno.serve({ hostname: address.hostname, port: address.port, onListen }, handler);
    }
    await removeStaleSocket(address.path);
    const server = Deno.serve({ path: address.path, onListen }, handler);
    await Deno.chmod(address.path, SOCKET_MODE);
    return server;
  } catch (cause) {
    const inUse = cause instanceof Deno.errors.AddrInUse;
    throw new GinnelError(
      inUse ? "ERR_LISTEN_IN_USE" : "ERR_LISTEN_FAILED",
      `Cannot serve health on ${addressText(address)}: ${inUse ? "the address is in use" : String(cause)}`,
      { cause, hint: `Change "health" in the config file` },
    );
  }
}

/** A socket file outlives a killed process; nobody answers on it, so it may go. Any other file stays. */
async function removeStaleSocket(path: string): Promise<void> {
  try {
    if ((await Deno.lstat(path)).isSocket !== true) return;
    (await Deno.connect({ transport: "unix", path })).close();
  } catch (error) {
    if (error instanceof Deno.errors.ConnectionRefused) await Deno.remove(path);
  }
}

function boundAddress(server: Deno.HttpServer<Deno.Addr>, asked: Upstream): Upstream {
  if (asked.kind === "unix") return asked;
  const { hostname, port } = server.addr as Deno.NetAddr;
  return { kind: "tcp", hostname, port };
}

function addressText(address: Upstream): string {
  return address.kind === "tcp" ? formatHostPort(address) : `unix:${address.path}`;
}
