/** Packets with headers of one's own making, from whatever address, on their way by the host's routes. Needs root. */

const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_RAW = 3;
const IPPROTO_RAW = 255;

const SYMBOLS = {
  socket: { parameters: ["i32", "i32", "i32"], result: "i32" },
  sendto: { parameters: ["i32", "buffer", "usize", "i32", "buffer", "u32"], result: "isize" },
} as const;

let libc: Deno.DynamicLibrary<typeof SYMBOLS> | undefined;
const sockets = new Map<number, number>();

/** Sends one IP packet as it is, but for the checksum of an IPv4 header, which the kernel writes; false when it refuses. */
export function sendRaw(packet: Uint8Array<ArrayBuffer>): boolean {
  libc ??= Deno.dlopen("libc.so.6", SYMBOLS);
  const family = packet[0]! >> 4 === 6 ? AF_INET6 : AF_INET;
  const fd = sockets.get(family) ?? libc.symbols.socket(family, SOCK_RAW, IPPROTO_RAW);
  if (fd < 0) throw new Error("Cannot make a raw socket");
  sockets.set(family, fd);
  const destination = family === AF_INET6 ? packet.slice(24, 40) : packet.slice(16, 20);
  const address = new Uint8Array(family === AF_INET6 ? 28 : 16);
  // sa_family in the machine's order; then port (and flow label), then the address.
  new DataView(address.buffer).setUint16(0, family, true);
  address.set(destination, family === AF_INET6 ? 8 : 4);
  const sent = libc.symbols.sendto(fd, packet, BigInt(packet.length), 0, address, address.length);
  return Number(sent) === packet.length;
}
