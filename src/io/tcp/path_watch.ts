/**
 * Ends TCP connections whose path is gone: this machine has another address now, or a router on the way has forgotten
 * them. The kernel would go on sending for a quarter of an hour. TCP_USER_TIMEOUT is no way out: it also ends connections
 * whose peer merely does not read for a while. Linux only; elsewhere nothing is watched.
 */

import { tryOpenLibc } from "../libc.ts";
import { type ConnectedSocket, descriptorOf } from "./reset_socket.ts";

/** Milliseconds between looks. */
const LOOK_MS = 1_000;

/**
 * A path is gone when nothing was acknowledged for so many milliseconds, though it was sent so many times more, or asked
 * for as often: as a probe counts what could not even leave. A peer that does not read answers probes.
 */
const SILENCE_MS = 5_000;
const TRIES = 3;

/** Seconds until a connection that carries nothing is asked whether it is there, between questions, and how many. */
const KEEPALIVE = [[4, 20], [5, 5], [6, 3]] as const;

/** A connection, and what to do when its path is gone. */
export interface WatchedPath {
  readonly conn: ConnectedSocket;
  readonly onGone: () => void;
}

/** Watches a connection; returns the way to stop, which goes before the connection is closed. */
export function watchPath(path: WatchedPath): () => void {
  if (LIBC === undefined) return ignore;
  watched.set(path, { isPrepared: false });
  timer ??= setInterval(look, LOOK_MS);
  return () => forget(path);
}

const SYMBOLS = {
  setsockopt: { parameters: ["i32", "i32", "i32", "buffer", "u32"], result: "i32" },
  getsockopt: { parameters: ["i32", "i32", "i32", "buffer", "buffer"], result: "i32" },
} as const satisfies Deno.ForeignLibraryInterface;

const IPPROTO_TCP = 6;
const TCP_INFO = 11;
/** linux/tcp.h, struct tcp_info: two bytes, and two numbers of 32 bits. */
const INFO_SIZE = 104;
const AT_RETRANSMITS = 2;
const AT_PROBES = 3;
const AT_UNACKED = 24;
const AT_LAST_ACK = 56;

const LIBC = tryOpenLibc(SYMBOLS);
const INFO = new DataView(new ArrayBuffer(INFO_SIZE));
const isLittleEndian = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1;

const watched = new Map<WatchedPath, { isPrepared: boolean }>();
let timer: ReturnType<typeof setInterval> | undefined;

function look(): void {
  for (const [path, state] of watched) {
    const descriptor = descriptorOf(path.conn);
    // Closed by the other end, and by ours before long.
    if (descriptor === undefined) continue;
    if (!state.isPrepared) {
      state.isPrepared = true;
      for (const [name, value] of KEEPALIVE) {
        LIBC!.symbols.setsockopt(descriptor, IPPROTO_TCP, name, Int32Array.of(value), 4);
      }
    }
    if (!isGone(descriptor)) continue;
    forget(path);
    path.onGone();
  }
}

function isGone(descriptor: number): boolean {
  const length = Uint32Array.of(INFO_SIZE);
  if (LIBC!.symbols.getsockopt(descriptor, IPPROTO_TCP, TCP_INFO, INFO, length) !== 0) return false;
  if (INFO.getUint32(AT_LAST_ACK, isLittleEndian) < SILENCE_MS) return false;
  const hasRetried = INFO.getUint32(AT_UNACKED, isLittleEndian) > 0 && INFO.getUint8(AT_RETRANSMITS) >= TRIES;
  return hasRetried || INFO.getUint8(AT_PROBES) >= TRIES;
}

function forget(path: WatchedPath): void {
  watched.delete(path);
  if (watched.size > 0) return;
  clearInterval(timer);
  timer = undefined;
}

function ignore(): void {}
