/**
 * Raises the kernel buffers of a UDP socket: with the defaults a busy relay loses datagrams in bursts.
 */

import { errorMessage } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import { openSockets, type SocketHandle, SOL_SOCKET } from "../libc_sockets.ts";

/** Bytes asked for in each direction. */
export const SOCKET_BUFFER_SIZE = 8 * 1024 * 1024;

/** What the kernel granted, in bytes. */
export interface SocketBuffers {
  readonly receive: number;
  readonly send: number;
}

/**
 * Raises both buffers of the UDP socket bound to `port` and returns what the kernel granted, or `undefined`
 * where it could not be asked. Never throws: what is missing is a warning that says what to do.
 */
export function raiseSocketBuffers(port: number, logger: Logger): SocketBuffers | undefined {
  try {
    using sockets = openSockets({ kind: "udp", port });
    const receive = raise(sockets, { forced: SO_RCVBUFFORCE, plain: SO_RCVBUF });
    const send = raise(sockets, { forced: SO_SNDBUFFORCE, plain: SO_SNDBUF });
    const fields = { receive, send, wanted: SOCKET_BUFFER_SIZE };
    if (Math.min(receive, send) >= SOCKET_BUFFER_SIZE) logger.debug("socket_buffers_raised", fields);
    else logger.warn("socket_buffers_small", { ...fields, hint: HINT });
    return { receive, send };
  } catch (error) {
    logger.warn("socket_buffers_unchanged", { reason: errorMessage(error), hint: HINT });
    return undefined;
  }
}

const HINT = "Run `sysctl -w net.core.rmem_max=8388608 net.core.wmem_max=8388608`, or grant CAP_NET_ADMIN";

const SO_SNDBUF = 7;
const SO_RCVBUF = 8;
const SO_SNDBUFFORCE = 32;
const SO_RCVBUFFORCE = 33;

function raise(socket: SocketHandle, names: { readonly forced: number; readonly plain: number }): number {
  const plain = { level: SOL_SOCKET, name: names.plain };
  if (!socket.set({ level: SOL_SOCKET, name: names.forced }, SOCKET_BUFFER_SIZE)) {
    socket.set(plain, SOCKET_BUFFER_SIZE);
  }
  // The kernel doubles what was asked for its own bookkeeping.
  return (socket.get(plain) ?? 0) / 2;
}
