/**
 * Socket options that the runtime does not offer, set through libc on one of our own descriptors. Linux only.
 */

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

/** One socket; dispose it to close the library, not the socket. */
export interface SocketHandle extends Disposable {
  /** Sets an integer option; false when the kernel refused. */
  set(option: SocketOption, value: number): boolean;
  /** Reads an integer option; `undefined` when the kernel refused. */
  get(option: SocketOption): number | undefined;
}

export const SOL_SOCKET = 1;

/** Finds a socket among our descriptors; throws when there is none, or no permission to look. */
export function openSocket(query: SocketQuery): SocketHandle {
  const library = Deno.dlopen("libc.so.6", SYMBOLS);
  try {
    for (const { name } of Deno.readDirSync("/proc/self/fd")) {
      const socket = new LibcSocket(library, Number(name));
      if (isSocket(name) && socket.matches(query)) return socket;
    }
  } catch (error) {
    library.close();
    throw error;
  }
  library.close();
  throw new Error(`No ${query.kind} socket on port ${query.port} among our descriptors`);
}

const SO_TYPE: SocketOption = { level: SOL_SOCKET, name: 3 };
const SO_ACCEPTCONN: SocketOption = { level: SOL_SOCKET, name: 30 };
const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;

const SYMBOLS = {
  setsockopt: { parameters: ["i32", "i32", "i32", "buffer", "u32"], result: "i32" },
  getsockopt: { parameters: ["i32", "i32", "i32", "buffer", "buffer"], result: "i32" },
  getsockname: { parameters: ["i32", "buffer", "buffer"], result: "i32" },
} as const;

class LibcSocket implements SocketHandle {
  readonly #library: Deno.DynamicLibrary<typeof SYMBOLS>;
  readonly #fd: number;

  constructor(library: Deno.DynamicLibrary<typeof SYMBOLS>, fd: number) {
    this.#library = library;
    this.#fd = fd;
  }

  matches(query: SocketQuery): boolean {
    if (this.#boundPort() !== query.port) return false;
    const type = this.get(SO_TYPE);
    if (query.kind === "udp") return type === SOCK_DGRAM;
    return type === SOCK_STREAM && this.get(SO_ACCEPTCONN) === 1;
  }

  set(option: SocketOption, value: number): boolean {
    const bytes = new Int32Array([value]);
    return this.#library.symbols.setsockopt(this.#fd, option.level, option.name, bytes, 4) === 0;
  }

  get(option: SocketOption): number | undefined {
    const value = new Int32Array(1);
    const length = new Uint32Array([4]);
    const result = this.#library.symbols.getsockopt(this.#fd, option.level, option.name, value, length);
    return result === 0 ? value[0] : undefined;
  }

  [Symbol.dispose](): void {
    this.#library.close();
  }

  #boundPort(): number | undefined {
    // struct sockaddr_in and sockaddr_in6 both hold the port in network order at offset 2.
    const address = new Uint8Array(128);
    const length = new Uint32Array([address.length]);
    if (this.#library.symbols.getsockname(this.#fd, address, length) !== 0) return undefined;
    return new DataView(address.buffer).getUint16(2);
  }
}

function isSocket(name: string): boolean {
  try {
    return Deno.readLinkSync(`/proc/self/fd/${name}`).startsWith("socket:");
  } catch (error) {
    // The descriptor of the directory listing itself may be gone by now.
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}
