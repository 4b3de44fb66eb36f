/**
 * Ends a TCP connection with RST. Deno offers no way: closing a `Deno.TcpConn` shuts its write half down
 * first, so that even SO_LINGER 0 lets a FIN out before the reset, and the peer reads a clean end. libc's
 * connect(AF_UNSPEC) disconnects the socket with RST at once. (node:net can reset, but moves bytes at a
 * third of the speed and allocates a buffer per read.) Without `--allow-ffi` a reset becomes a close.
 */

import { tryOpenLibc } from "../libc.ts";

const SYMBOLS = {
  connect: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  getsockname: { parameters: ["i32", "buffer", "buffer"], result: "i32" },
  getpeername: { parameters: ["i32", "buffer", "buffer"], result: "i32" },
} as const satisfies Deno.ForeignLibraryInterface;

const AF_INET = 2;
const AF_INET6 = 10;
/** A `struct sockaddr` whose family is AF_UNSPEC (0): connecting to it dissolves the association. */
const DISCONNECT = new Uint8Array(16);
/** Descriptors are handed out lowest first; this many that are no sockets in a row end the search. */
const MAX_GAP = 4096;

const LIBC = tryOpenLibc(SYMBOLS);
const SOCKADDR = new Uint8Array(128);
const SOCKADDR_LENGTH = new Uint32Array(1);

/** Descriptors found by earlier searches, by connection key: a hint that is verified before use. */
let knownDescriptors = new Map<string, number>();

/** A connection as far as its socket is concerned; a `Deno.TlsConn` is one too. */
export interface ConnectedSocket {
  readonly localAddr: Deno.NetAddr;
  readonly remoteAddr: Deno.NetAddr;
}

/** Tells whether {@linkcode resetConnection} can send RST here: it needs `--allow-ffi` and a libc. */
export function canResetConnections(): boolean {
  return LIBC !== undefined;
}

/**
 * Sends RST and leaves the connection dead; the caller still closes `conn`. Returns false, having done
 * nothing, where that is impossible. Searching the descriptor costs a system call per open descriptor, once
 * for all connections that exist at that time.
 */
export function resetConnection(conn: ConnectedSocket): boolean {
  if (LIBC === undefined) return false;
  const key = connectionKey(conn);
  const descriptor = findDescriptor(LIBC, key);
  if (descriptor === undefined) return false;
  knownDescriptors.delete(key);
  return LIBC.symbols.connect(descriptor, DISCONNECT, DISCONNECT.length) === 0;
}

/**
 * The descriptor of a connection's socket, verified just now; `undefined` where there is none, or none can be found. The
 * search costs what {@linkcode resetConnection}'s does.
 */
export function descriptorOf(conn: ConnectedSocket): number | undefined {
  return LIBC === undefined ? undefined : findDescriptor(LIBC, connectionKey(conn));
}

type Libc = Deno.DynamicLibrary<typeof SYMBOLS>;

function findDescriptor(libc: Libc, key: string): number | undefined {
  const known = knownDescriptors.get(key);
  if (known !== undefined && descriptorKey(libc, known) === key) return known;
  knownDescriptors = new Map();
  for (let descriptor = 0, gap = 0; gap < MAX_GAP; descriptor++, gap++) {
    const found = descriptorKey(libc, descriptor);
    if (found === undefined) continue;
    knownDescriptors.set(found, descriptor);
    gap = 0;
  }
  return knownDescriptors.get(key);
}

/** The key of a connected TCP socket by its descriptor; undefined for anything else. */
function descriptorKey(libc: Libc, descriptor: number): string | undefined {
  const local = readName(libc.symbols.getsockname, descriptor);
  if (local === undefined) return undefined;
  const remote = readName(libc.symbols.getpeername, descriptor);
  return remote === undefined ? undefined : `${local}>${remote}`;
}

function readName(call: Libc["symbols"]["getsockname"], descriptor: number): string | undefined {
  SOCKADDR_LENGTH[0] = SOCKADDR.length;
  if (call(descriptor, SOCKADDR, SOCKADDR_LENGTH) !== 0) return undefined;
  const view = new DataView(SOCKADDR.buffer);
  const family = view.getUint16(0, true);
  const port = view.getUint16(2);
  if (family === AF_INET) return formatKey(0xffff, view.getUint32(4), port);
  if (family !== AF_INET6) return undefined;
  let high = 0n;
  for (let i = 0; i < 3; i++) high = (high << 32n) | BigInt(view.getUint32(8 + 4 * i));
  return formatKey(high, view.getUint32(20), port);
}

function connectionKey(conn: ConnectedSocket): string {
  return `${addressKey(conn.localAddr)}>${addressKey(conn.remoteAddr)}`;
}

/** One spelling for all forms of an address: the upper 96 bits (IPv4 as mapped), the lower 32, the port. */
function formatKey(high: bigint | number, low: number, port: number): string {
  return `${high.toString(16)}:${low.toString(16)}:${port}`;
}

function addressKey(address: Deno.NetAddr): string {
  const text = address.hostname.replace(/%.*$/, "");
  if (!text.includes(":")) return formatKey(0xffff, ipv4Number(text), address.port);
  const [head = "", tail] = text.split("::");
  const front = groups(head);
  const back = groups(tail ?? "");
  const all = [...front, ...Array<number>(8 - front.length - back.length).fill(0), ...back];
  const bits = all.reduce((sum, group) => (sum << 16n) | BigInt(group), 0n);
  return formatKey(bits >> 32n, Number(bits & 0xffff_ffffn), address.port);
}

function groups(text: string): number[] {
  return text.split(":").filter((group) => group !== "").flatMap((group) => {
    if (!group.includes(".")) return [Number.parseInt(group, 16)];
    const low = ipv4Number(group);
    return [low >>> 16, low & 0xffff];
  });
}

function ipv4Number(text: string): number {
  return text.split(".").reduce((sum, octet) => sum * 256 + Number(octet), 0);
}
