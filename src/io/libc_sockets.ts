/**
 * Socket options that the runtime does not offer, set through libc on one of our own descriptors. Linux only.
 */

import { encodeFilter, type FilterInstruction } from "./packet_filter.ts";

/** Which of our sockets. */
export interface SocketQuery {
  readonly kind: "udp" | "tcp-listener";
  /** The local port it is bound to. */
  readonly port: number;
}

/** An option by its numbers, as in the kernel's `socket.h` and `tcp.h`. */
export interface SocketOption {
  readonly level: number;
  readonly name: number;
}

/** Our sockets that match, usually one; dispose it to close the library, not the sockets. */
export interface SocketHandle extends Disposable {
  /** Sets an integer option on all of them; false when the kernel refused. */
  set(option: SocketOption, value: number): boolean;
  /** Attaches a packet filter to all of them; false when the kernel refused. */
  attach(option: SocketOption, program: readonly FilterInstruction[]): boolean;
  /** Reads an integer option of the first; `undefined` when the kernel refused. */
  get(option: SocketOption): number | undefined;
}

export const SOL_SOCKET = 1;

/** Finds sockets among our descriptors; throws when there is none. */
export function openSockets(query: SocketQuery): SocketHandle {
  const library = Deno.dlopen("libc.so.6", SYMBOLS);
  try {
    const sockets = openDescriptors(library).filter((fd) => matches(library, fd, query));
    if (sockets.length > 0) return new LibcSockets(library, sockets);
  } catch (error) {
    library.close();
    throw error;
  }
  library.close();
  throw new Error(`No ${query.kind} socket on port ${query.port} among our descriptors`);
}

const SO_TYPE: SocketOption = { level: SOL_SOCKET, name: 3 };
const SO_ACCEPTCONN: SocketOption = { level: SOL_SOCKET, name: 30 };
const F_GETFD = 1;
/** Free numbers in a row after which no descriptor is expected. */
const LONG_RUN = 4_096;

const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;

const SYMBOLS = {
  fcntl: { parameters: ["i32", "i32"], result: "i32" },
  setsockopt: { parameters: ["i32", "i32", "i32", "buffer", "u32"], result: "i32" },
  getsockopt: { parameters: ["i32", "i32", "i32", "buffer", "buffer"], result: "i32" },
  getsockname: { parameters: ["i32", "buffer", "buffer"], result: "i32" },
} as const;

type Libc = Deno.DynamicLibrary<typeof SYMBOLS>;

class LibcSockets implements SocketHandle {
  readonly #library: Libc;
  readonly #fds: readonly number[];

  constructor(library: Libc, fds: readonly number[]) {
    this.#library = library;
    this.#fds = fds;
  }

  set({ level, name }: SocketOption, value: number): boolean {
    const bytes = new Int32Array([value]);
    return this.#fds.every((fd) => this.#library.symbols.setsockopt(fd, level, name, bytes, 4) === 0);
  }

  attach({ level, name }: SocketOption, program: readonly FilterInstruction[]): boolean {
    // struct sock_fprog: the number of instructions, padding, then a pointer to them.
    const instructions = encodeFilter(program);
    const header = new DataView(new ArrayBuffer(16));
    header.setUint16(0, program.length, true);
    header.setBigUint64(8, Deno.UnsafePointer.value(Deno.UnsafePointer.of(instructions)), true);
    const { setsockopt } = this.#library.symbols;
    return this.#fds.every((fd) => setsockopt(fd, level, name, header, header.byteLength) === 0);
  }

  get(option: SocketOption): number | undefined {
    return readOption(this.#library, this.#fds[0] as number, option);
  }

  [Symbol.dispose](): void {
    this.#library.close();
  }
}

function matches(library: Libc, fd: number, query: SocketQuery): boolean {
  if (boundPort(library, fd) !== query.port) return false;
  const type = readOption(library, fd, SO_TYPE);
  if (query.kind === "udp") return type === SOCK_DGRAM;
  return type === SOCK_STREAM && readOption(library, fd, SO_ACCEPTCONN) === 1;
}

function readOption(library: Libc, fd: number, option: SocketOption): number | undefined {
  const value = new Int32Array(1);
  const length = new Uint32Array([4]);
  const result = library.symbols.getsockopt(fd, option.level, option.name, value, length);
  return result === 0 ? value[0] : undefined;
}

function boundPort(library: Libc, fd: number): number | undefined {
  // struct sockaddr_in and sockaddr_in6 both hold the port in network order at offset 2.
  const address = new Uint8Array(128);
  const length = new Uint32Array([address.length]);
  if (library.symbols.getsockname(fd, address, length) !== 0) return undefined;
  return new DataView(address.buffer).getUint16(2);
}

/**
 * Our open descriptors. The runtime shows /proc to programs with every permission only, so they are tried one by one:
 * the kernel gives out the lowest free number, so that they end where a long run of numbers is free.
 */
function openDescriptors(library: Libc): number[] {
  const open: number[] = [];
  for (let fd = 0, free = 0; free < LONG_RUN; fd++) {
    if (library.symbols.fcntl(fd, F_GETFD) === -1) {
      free++;
    } else {
      free = 0;
      open.push(fd);
    }
  }
  return open;
}
