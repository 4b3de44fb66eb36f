/**
 * A macOS utun interface through libSystem. UNTESTED: written from Apple's headers and never run on a Mac; it is here
 * so that the port has a place for it.
 */

import type { PacketBatch } from "../../dataplane/tunnel/packet_batch.ts";
import type { PacketDevice } from "../../dataplane/tunnel/packet_device.ts";
import { GinnelError } from "../../base/errors.ts";

/** Opens the next free utun interface, whose name the system chooses. */
export function openUtun({ mtu }: { readonly mtu: number }): PacketDevice {
  const library = Deno.dlopen("/usr/lib/libSystem.B.dylib", SYMBOLS);
  try {
    const device = new Utun(library, connect(library));
    device.setMtu(mtu);
    return device;
  } catch (error) {
    library.close();
    throw error;
  }
}

// From sys/socket.h, sys/kern_control.h, net/if_utun.h and sys/sockio.h.
const AF_INET = 2;
const AF_INET6 = 30;
const PF_SYSTEM = 32;
const AF_SYS_CONTROL = 2;
const SYSPROTO_CONTROL = 2;
const SOCK_DGRAM = 2;
const UTUN_OPT_IFNAME = 2;
const CTLIOCGINFO = 0xc0644e03n;
const SIOCSIFMTU = 0x80206934n;
const MSG_DONTWAIT = 0x80;
const POLLIN = 1;
/** Each packet has the address family in front, in network order. */
const FAMILY_SIZE = 4;
const MAX_PACKET = 65535;

/**
 * ioctl takes its third argument as a variadic one, which on arm64 Macs lies on the stack: six words fill the
 * registers in between.
 */
const IOCTL_PADDING = Deno.build.arch === "aarch64"
  ? ["u64", "u64", "u64", "u64", "u64", "u64"] as const
  : [];

const SYMBOLS = {
  socket: { parameters: ["i32", "i32", "i32"], result: "i32" },
  ioctl: { parameters: ["i32", "u64", ...IOCTL_PADDING, "buffer"], result: "i32" },
  connect: { parameters: ["i32", "buffer", "u32"], result: "i32" },
  getsockopt: { parameters: ["i32", "i32", "i32", "buffer", "buffer"], result: "i32" },
  recv: { parameters: ["i32", "buffer", "usize", "i32"], result: "isize" },
  send: { parameters: ["i32", "buffer", "usize", "i32"], result: "isize" },
  poll: { parameters: ["buffer", "u32", "i32"], result: "i32", nonblocking: true },
  socketpair: { parameters: ["i32", "i32", "i32", "buffer"], result: "i32" },
  close: { parameters: ["i32"], result: "i32" },
} as const satisfies Deno.ForeignLibraryInterface;

type LibSystem = Deno.DynamicLibrary<typeof SYMBOLS>;

class Utun implements PacketDevice {
  readonly name: string;
  readonly #library: LibSystem;
  readonly #fd: number;
  /** A pair of sockets; closing the second ends a wait on the first. */
  readonly #wake: Int32Array<ArrayBuffer>;
  readonly #frame = new Uint8Array(FAMILY_SIZE + MAX_PACKET);
  #held = 0;
  #waiting = false;
  #closed = false;

  constructor(library: LibSystem, fd: number) {
    this.#library = library;
    this.#fd = fd;
    const name = new Uint8Array(16);
    library.symbols.getsockopt(fd, SYSPROTO_CONTROL, UTUN_OPT_IFNAME, name, new Uint32Array([name.length]));
    this.name = new TextDecoder().decode(name.subarray(0, name.indexOf(0)));
    this.#wake = new Int32Array(2);
    library.symbols.socketpair(1, SOCK_DGRAM, 0, this.#wake);
  }

  read(batch: PacketBatch): number {
    batch.clear();
    if (this.#closed) return 0;
    for (;;) {
      if (this.#held === 0) {
        const got = Number(
          this.#library.symbols.recv(this.#fd, this.#frame, BigInt(this.#frame.length), MSG_DONTWAIT),
        );
        if (got <= FAMILY_SIZE) return batch.count;
        this.#held = got;
      }
      const added = batch.add(this.#frame.subarray(FAMILY_SIZE, this.#held));
      if (!added && batch.count > 0) return batch.count;
      this.#held = 0;
    }
  }

  async readable(): Promise<boolean> {
    if (this.#closed) return false;
    this.#waiting = true;
    // struct pollfd: a descriptor, then two 16-bit fields, of which the first is what to wait for.
    const polled = new Int32Array([this.#fd, POLLIN, this.#wake[0] as number, POLLIN]);
    await this.#library.symbols.poll(polled, 2, -1);
    this.#waiting = false;
    if (this.#closed) this.#release();
    return !this.#closed;
  }

  write(batch: PacketBatch): number {
    if (this.#closed) return batch.count;
    let refused = 0;
    const frame = new Uint8Array(FAMILY_SIZE + MAX_PACKET);
    for (let index = 0; index < batch.count; index++) {
      const packet = batch.bytes.subarray(batch.starts[index], batch.ends[index]);
      frame[3] = (packet[0] ?? 0) >> 4 === 6 ? AF_INET6 : AF_INET;
      frame.set(packet, FAMILY_SIZE);
      const size = BigInt(FAMILY_SIZE + packet.length);
      if (this.#library.symbols.send(this.#fd, frame, size, MSG_DONTWAIT) < 0) refused++;
    }
    return refused;
  }

  setMtu(mtu: number): void {
    const request = new DataView(new ArrayBuffer(32));
    new Uint8Array(request.buffer).set(new TextEncoder().encode(this.name));
    request.setInt32(16, mtu, true);
    const fd = this.#library.symbols.socket(AF_INET, SOCK_DGRAM, 0);
    const result = ioctl(this.#library, fd, {
      request: SIOCSIFMTU,
      argument: new Uint8Array(request.buffer),
    });
    this.#library.symbols.close(fd);
    if (result === 0) return;
    throw new GinnelError("ERR_TUN_MTU", `The MTU of ${this.name} cannot be set to ${mtu}`);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#library.symbols.close(this.#wake[1] as number);
    if (!this.#waiting) this.#release();
  }

  #release(): void {
    this.#library.symbols.close(this.#fd);
    this.#library.symbols.close(this.#wake[0] as number);
    this.#library.close();
  }
}

function connect(library: LibSystem): number {
  const fd = library.symbols.socket(PF_SYSTEM, SOCK_DGRAM, SYSPROTO_CONTROL);
  if (fd < 0) throw refused("no control socket");
  // struct ctl_info: the id that is asked for, then the name.
  const info = new Uint8Array(100);
  info.set(new TextEncoder().encode("com.apple.net.utun_control"), 4);
  if (ioctl(library, fd, { request: CTLIOCGINFO, argument: info }) !== 0) {
    library.symbols.close(fd);
    throw refused("no utun control");
  }
  // struct sockaddr_ctl: length, family, AF_SYS_CONTROL, id, unit (0: the next free one), reserved.
  const address = new DataView(new ArrayBuffer(32));
  address.setUint8(0, 32);
  address.setUint8(1, PF_SYSTEM);
  address.setUint16(2, AF_SYS_CONTROL, true);
  address.setUint32(4, new DataView(info.buffer).getUint32(0, true), true);
  if (library.symbols.connect(fd, new Uint8Array(address.buffer), 32) === 0) return fd;
  library.symbols.close(fd);
  throw refused("not permitted");
}

function ioctl(
  library: LibSystem,
  fd: number,
  { request, argument }: { readonly request: bigint; readonly argument: Uint8Array<ArrayBuffer> },
): number {
  const call = library.symbols.ioctl as unknown as (...args: unknown[]) => number;
  return call(fd, request, ...IOCTL_PADDING.map(() => 0n), argument);
}

function refused(why: string): GinnelError {
  return new GinnelError("ERR_TUN_NO_PRIVILEGE", `A utun interface cannot be opened: ${why}`, {
    hint: "Start it with sudo.",
  });
}
