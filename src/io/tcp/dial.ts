/**
 * Connects to an upstream over TCP or a unix socket, within a time limit.
 */

import type { Upstream } from "../../base/address.ts";
import { GinnelError } from "../../base/errors.ts";
import { type SocketChannel, socketChannel } from "./socket_channel.ts";

/** Milliseconds a dial may take when nothing else is said. */
const DEFAULT_DIAL_TIMEOUT = 10_000;

/** Why a dial failed. */
export type DialErrorCode =
  | "ERR_UPSTREAM_REFUSED"
  | "ERR_UPSTREAM_TIMEOUT"
  | "ERR_UPSTREAM_NOT_FOUND"
  | "ERR_UPSTREAM_UNREACHABLE"
  | "ERR_UPSTREAM_PERMISSION";

/** An upstream could not be reached. */
export class DialError extends GinnelError {
  declare readonly code: DialErrorCode;

  constructor(code: DialErrorCode, message: string, options: ErrorOptions = {}) {
    super(code, message, options);
  }
}

/** How to dial. */
export interface DialOptions {
  /** Gives the dial up; it then rejects with the signal's reason. */
  readonly signal?: AbortSignal;
  /** Milliseconds until `ERR_UPSTREAM_TIMEOUT`. */
  readonly timeout?: number;
}

/** Connects to `upstream`; rejects with {@linkcode DialError} or with `signal.reason`. */
export async function dialUpstream(upstream: Upstream, options: DialOptions = {}): Promise<SocketChannel> {
  const { signal, timeout = DEFAULT_DIAL_TIMEOUT } = options;
  signal?.throwIfAborted();
  const connecting = new AbortController();
  const onAbort = () => connecting.abort(signal!.reason);
  signal?.addEventListener("abort", onAbort, { once: true });
  const timer = setTimeout(() => connecting.abort(TIMED_OUT), timeout);
  try {
    return socketChannel(await connect(upstream, connecting.signal));
  } catch (error) {
    if (signal?.aborted) throw signal.reason;
    throw dialError(upstream, connecting.signal.reason === TIMED_OUT ? TIMED_OUT : error);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", onAbort);
  }
}

const TIMED_OUT = new Error("Timed out");

async function connect(upstream: Upstream, signal: AbortSignal): Promise<Deno.TcpConn | Deno.UnixConn> {
  // A unix connect takes no signal and needs none: it succeeds or fails at once.
  if (upstream.kind === "unix") return await Deno.connect({ transport: "unix", path: upstream.path });
  return await Deno.connect({ hostname: upstream.hostname, port: upstream.port, signal });
}

function dialError(upstream: Upstream, cause: unknown): DialError {
  const name = upstream.kind === "unix"
    ? `unix:${upstream.path}`
    : `tcp://${upstream.hostname}:${upstream.port}`;
  const fail = (code: DialErrorCode, what: string) => new DialError(code, `${what}: ${name}`, { cause });
  if (cause === TIMED_OUT || cause instanceof Deno.errors.TimedOut) {
    return fail("ERR_UPSTREAM_TIMEOUT", "Upstream did not answer in time");
  }
  if (cause instanceof Deno.errors.ConnectionRefused) {
    return fail("ERR_UPSTREAM_REFUSED", "Upstream refused the connection");
  }
  if (cause instanceof Deno.errors.NotFound) return fail("ERR_UPSTREAM_NOT_FOUND", "Upstream does not exist");
  if (cause instanceof Deno.errors.PermissionDenied || cause instanceof Deno.errors.NotCapable) {
    return fail("ERR_UPSTREAM_PERMISSION", "Upstream may not be opened by this process");
  }
  return fail("ERR_UPSTREAM_UNREACHABLE", "Upstream cannot be reached");
}
