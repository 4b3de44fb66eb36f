/**
 * What the runtime's UDP sockets cannot do, by libc on their descriptors: connect, and move datagrams without a promise
 * and an object for each. Linux, and `--allow-ffi`.
 */

import { tryOpenLibc } from "../libc.ts";
import { SOL_SOCKET } from "../libc_sockets.ts";

const SYMBOLS = {
  connect: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  getsockname: { parameters: ["i32", "buffer", "buffer"], result: "i32" },
  getsockopt: { parameters: ["i32", "i32", "i32", "buffer", "buffer"], result: "i32" },
  setsockopt: { parameters: ["i32", "i32", "i32", "buffer", "u32"], result: "i32" },
  send: { parameters: ["i32", "buffer", "usize", "i32"], result: "isize" },
  sendmsg: { parameters: ["i32", "buffer", "i32"], result: "isize" },
  recv: { parameters: ["i32", "buffer", "usize", "i32"], result: "isize" },
  __errno_location: { parameters: [], result: "pointer" },
} as const satisfies Deno.ForeignLibraryInterface;

const AF_INET = 2;
const AF_INET6 = 10;
const SO_TYPE = 3;
const SO_RCVBUF = 8;
const SO_RCVBUFFORCE = 33;
const SOCK_DGRAM = 2;
const SOL_UDP = 17;
const UDP_SEGMENT = 103;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;

/** Descriptors are handed out lowest first: this many in a row that are no sockets end the search. */
const MAX_GAP = 4_096;

const SOCKADDR = new Uint8Array(128);
const SOCKADDR_VIEW = new DataView(SOCKADDR.buffer);
const LENGTH = new Uint32Array(1);
const OPTION = new Int32Array(1);

/** What an earlier datagram met, told by the next send or receive: nobody listens there. */
export const ECONNREFUSED = 111;

/** Nothing to receive, or no room to send, now. */
export const EAGAIN = 11;

/** libc, as far as UDP sockets need it; descriptors must be open. */
export class LibcUdp {
  readonly #symbols: Deno.DynamicLibrary<typeof SYMBOLS>["symbols"];
  readonly #errno: Deno.UnsafePointerView;
  readonly #segments = new SegmentMessage();
  /** Where the last search ended: the next socket is likely near. */
  #hint = 0;

  /** Opens libc; `undefined` where there is none, or it is not allowed. */
  static open(): LibcUdp | undefined {
    const library = tryOpenLibc(SYMBOLS);
    return library === undefined ? undefined : new LibcUdp(library);
  }

  private constructor(library: Deno.DynamicLibrary<typeof SYMBOLS>) {
    this.#symbols = library.symbols;
    // One address for each thread, so that it can be kept.
    this.#errno = new Deno.UnsafePointerView(library.symbols.__errno_location()!);
  }

  /** Why the last call failed. */
  get errno(): number {
    return this.#errno.getInt32();
  }

  /** The descriptor of our UDP socket bound to every address of one family and `port`, of which there can be but one. */
  find(version: 4 | 6, port: number): number | undefined {
    const wanted = { family: version === 4 ? AF_INET : AF_INET6, port };
    if (this.#matches(this.#hint, wanted)) return this.#hint;
    for (let fd = 0, gap = 0; gap < MAX_GAP; fd++) {
      const bound = this.#boundTo(fd);
      if (bound === undefined) gap++;
      else gap = 0;
      if (bound !== undefined && this.#matches(fd, wanted)) return this.#hint = fd;
    }
    return undefined;
  }

  /** Makes the socket send to one address, and receive from it only; false when there is no way to it. */
  connect(fd: number, address: Uint8Array, port: number): boolean {
    const isV4 = address.length === 4;
    const target = new Uint8Array(isV4 ? 16 : 28);
    const view = new DataView(target.buffer);
    // A family is a native number, a port is in network order.
    view.setUint16(0, isV4 ? AF_INET : AF_INET6, true);
    view.setUint16(2, port);
    target.set(address, isV4 ? 4 : 8);
    return this.#symbols.connect(fd, target, target.length) === 0;
  }

  /** Asks for a receive buffer of this size; the kernel may grant less. */
  growReceiveBuffer(fd: number, size: number): void {
    OPTION[0] = size;
    const { setsockopt } = this.#symbols;
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, OPTION, 4) === 0) return;
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, OPTION, 4);
  }

  /** Sends one datagram on a connected socket; false when it did not leave, see {@linkcode errno}. */
  send(fd: number, bytes: Uint8Array<ArrayBuffer>): boolean {
    return Number(this.#symbols.send(fd, bytes, bytes.length as never, MSG_DONTWAIT | MSG_NOSIGNAL)) >= 0;
  }

  /** Sends datagrams of `size` bytes, the last of which may be shorter; false when none left, see {@linkcode errno}. */
  sendSegments(fd: number, bytes: Uint8Array<ArrayBuffer>, size: number): boolean {
    return Number(
      this.#symbols.sendmsg(fd, this.#segments.message(bytes, size), MSG_DONTWAIT | MSG_NOSIGNAL),
    ) >= 0;
  }

  /** Receives one datagram and returns its length; -1 when there is none, see {@linkcode errno}. */
  receive(fd: number, buffer: Uint8Array<ArrayBuffer>): number {
    return Number(this.#symbols.recv(fd, buffer, buffer.length as never, MSG_DONTWAIT));
  }

  #matches(fd: number, wanted: { readonly family: number; readonly port: number }): boolean {
    const bound = this.#boundTo(fd);
    return bound?.family === wanted.family && bound.port === wanted.port && this.#isDatagram(fd);
  }

  #boundTo(fd: number): { readonly family: number; readonly port: number } | undefined {
    LENGTH[0] = SOCKADDR.length;
    if (this.#symbols.getsockname(fd, SOCKADDR, LENGTH) !== 0) return undefined;
    return { family: SOCKADDR_VIEW.getUint16(0, true), port: SOCKADDR_VIEW.getUint16(2) };
  }

  #isDatagram(fd: number): boolean {
    LENGTH[0] = 4;
    return this.#symbols.getsockopt(fd, SOL_SOCKET, SO_TYPE, OPTION, LENGTH) === 0 &&
      OPTION[0] === SOCK_DGRAM;
  }
}

/**
 * A `struct msghdr` of 64-bit Linux: one piece of memory, and how the kernel is to cut it.
 *
 * ```text
 *  0       8          16         24        32         40            48
 * +-------+----------+----------+---------+----------+-------------+-------+
 * | name  | name len | iovec *  | 1       | control *| control len | flags |
 * +-------+----------+----------+---------+----------+-------------+-------+
 * ```
 */
class SegmentMessage {
  // Buffers of their own: a small array without one may be moved by the garbage collector.
  readonly #header = new Uint8Array(new ArrayBuffer(56));
  /** Address and length. */
  readonly #piece = new BigUint64Array(new ArrayBuffer(16));
  /** `struct cmsghdr` and a 16-bit size. */
  readonly #control = new Uint8Array(new ArrayBuffer(24));
  readonly #size = new Uint16Array(this.#control.buffer, 16, 1);

  constructor() {
    const header = new BigUint64Array(this.#header.buffer);
    header[2] = addressOf(this.#piece);
    header[3] = 1n;
    header[4] = addressOf(this.#control);
    header[5] = BigInt(this.#control.length);
    new BigUint64Array(this.#control.buffer, 0, 1)[0] = 18n;
    new Int32Array(this.#control.buffer, 8, 2).set([SOL_UDP, UDP_SEGMENT]);
  }

  /** Valid until the next call, as long as `bytes` is. */
  message(bytes: Uint8Array<ArrayBuffer>, size: number): Uint8Array<ArrayBuffer> {
    this.#piece[0] = addressOf(bytes);
    this.#piece[1] = BigInt(bytes.length);
    this.#size[0] = size;
    return this.#header;
  }
}

function addressOf(memory: ArrayBufferView<ArrayBuffer>): bigint {
  return Deno.UnsafePointer.value(Deno.UnsafePointer.of(memory as Uint8Array<ArrayBuffer>));
}
