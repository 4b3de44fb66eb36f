/** Packets with headers of one's own making, from whatever address, on their way by the host's routes. Needs root. */

const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_RAW = 3;
const IPPROTO_RAW = 255;

const SYMBOLS = {
  socket: { parameters: ["i32", "i32", "i32"], result: "i32" },
  close: { parameters: ["i32"], result: "i32" },
  sendto: { parameters: ["i32", "buffer", "usize", "i32", "buffer", "u32"], result: "isize" },
} as const;

let libc: Deno.DynamicLibrary<typeof SYMBOLS> | undefined;
let own: RawSender | undefined;

/** Sends one IP packet as it is, but for the checksum of an IPv4 header, which the kernel writes; false when it refuses. */
export function sendRaw(packet: Uint8Array<ArrayBuffer>): boolean {
  own ??= new RawSender();
  return own.send(packet);
}

/** Sends such packets from the network namespace in which it was made. */
export class RawSender implements Disposable {
  readonly #libc = libc ??= Deno.dlopen("libc.so.6", SYMBOLS);
  readonly #sockets = {
    [AF_INET]: this.#libc.symbols.socket(AF_INET, SOCK_RAW, IPPROTO_RAW),
    [AF_INET6]: this.#libc.symbols.socket(AF_INET6, SOCK_RAW, IPPROTO_RAW),
  };

  /** See {@linkcode sendRaw}. */
  send(packet: Uint8Array<ArrayBuffer>): boolean {
    const family = packet[0]! >> 4 === 6 ? AF_INET6 : AF_INET;
    const fd = this.#sockets[family];
    if (fd < 0) throw new Error("Cannot make a raw socket");
    const destination = family === AF_INET6 ? packet.slice(24, 40) : packet.slice(16, 20);
    const address = new Uint8Array(family === AF_INET6 ? 28 : 16);
    // sa_family in the machine's order; then port (and flow label), then the address.
    new DataView(address.buffer).setUint16(0, family, true);
    address.set(destination, family === AF_INET6 ? 8 : 4);
    const { sendto } = this.#libc.symbols;
    const sent = sendto(fd, packet, BigInt(packet.length), 0, address, address.length);
    return Number(sent) === packet.length;
  }

  [Symbol.dispose](): void {
    for (const fd of Object.values(this.#sockets)) if (fd >= 0) this.#libc.symbols.close(fd);
  }
}
