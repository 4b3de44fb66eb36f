/**
 * A UDP socket that speaks with one address: it sends there, takes answers from nobody else, and learns from ICMP that
 * nobody listens there.
 */

import { ipToBytes, parseIp } from "../../base/ip.ts";
import { DialError } from "../tcp/dial.ts";
import { ECONNREFUSED, LibcUdp } from "./libc_udp.ts";
import { SendBatch } from "./send_batch.ts";

/** Where to, as an address without brackets. */
export interface UdpAddress {
  readonly address: string;
  readonly port: number;
}

/** An open socket. */
export interface ConnectedUdp {
  /** Sends `bytes[start, end)`, which may be used again at once; false when it was dropped. */
  send(bytes: Uint8Array<ArrayBuffer>, start: number, end: number): boolean;
  /** Hands every datagram to `handler`, valid until it returns. Call it once; before, the kernel keeps what comes. */
  receive(handler: (payload: Uint8Array<ArrayBuffer>) => void): void;
  /** Closes it. Idempotent. */
  abort(): void;
  /** Resolves when it is closed: with why, unless by {@linkcode abort}. */
  readonly closed: Promise<DialError | undefined>;
}

/** Bytes of datagrams the kernel is asked to keep while we are busy: at 80,000 a second some 20 ms. */
const RECEIVE_BUFFER = 4 * 1024 * 1024;

/** Bytes of the largest UDP payload, and more. */
const MAX_PAYLOAD = 65_536;

/** Datagrams taken in one turn, lest a busy upstream keeps everybody else waiting. */
const MAX_TURN = 64;

/** One for all sockets: what is received is handed on before the next call. */
const BUFFER = new Uint8Array(MAX_PAYLOAD);

/**
 * Milliseconds between looks for an ICMP error, and how many looks a datagram without an answer gets: the runtime does
 * not wake who waits to receive for an error.
 */
const LOOK_MS = 100;
const MAX_LOOKS = 10;

const LIBC = LibcUdp.open();

/** Opens a socket to the first address there is a way to; throws `DialError`. */
export function connectUdp(addresses: readonly UdpAddress[]): ConnectedUdp {
  if (LIBC === undefined) {
    throw new DialError(
      "ERR_UPSTREAM_PERMISSION",
      "UDP upstreams need Linux and the permission to use libc (ffi)",
    );
  }
  for (const target of addresses) {
    const socket = tryConnect(LIBC, target);
    if (socket !== undefined) return socket;
  }
  const names = addresses.map(({ address, port }) => `${address} port ${port}`).join(", ");
  throw new DialError("ERR_UPSTREAM_UNREACHABLE", `No way to upstream: ${names || "no address"}`);
}

function tryConnect(libc: LibcUdp, { address, port }: UdpAddress): ConnectedUdp | undefined {
  const ip = parseIp(address);
  if (ip === undefined) return undefined;
  const hostname = ip.version === 4 ? "0.0.0.0" : "::";
  let socket;
  try {
    socket = Deno.listenDatagram({ transport: "udp", hostname, port: 0 });
  } catch (cause) {
    // No IPv6 here, or no descriptor left.
    if (ip.version === 6) return undefined;
    throw new DialError("ERR_UPSTREAM_UNREACHABLE", `No socket for upstream ${address}`, { cause });
  }
  const fd = libc.find(ip.version, (socket.addr as Deno.NetAddr).port);
  if (fd === undefined || !libc.connect(fd, ipToBytes(ip), port)) {
    socket.close();
    return undefined;
  }
  libc.growReceiveBuffer(fd, RECEIVE_BUFFER);
  // From the moment in which the socket was bound but not connected: nothing was sent, so it answers nothing.
  while (libc.receive(fd, BUFFER) >= 0);
  return new ConnectedSocket(socket, { libc, fd });
}

class ConnectedSocket implements ConnectedUdp {
  readonly closed: Promise<DialError | undefined>;
  readonly #socket: Deno.DatagramConn;
  readonly #libc: LibcUdp;
  readonly #fd: number;
  readonly #batch: SendBatch;
  #settle!: (error: DialError | undefined) => void;
  #handler: ((payload: Uint8Array<ArrayBuffer>) => void) | undefined;
  #looking: ReturnType<typeof setTimeout> | undefined;
  #looks = 0;
  #isClosed = false;

  constructor(socket: Deno.DatagramConn, parts: { readonly libc: LibcUdp; readonly fd: number }) {
    this.closed = new Promise((resolve) => this.#settle = resolve);
    this.#socket = socket;
    this.#libc = parts.libc;
    this.#fd = parts.fd;
    this.#batch = new SendBatch(parts.libc, { fd: parts.fd, onRefused: () => this.#refused() });
  }

  send(bytes: Uint8Array<ArrayBuffer>, start: number, end: number): boolean {
    if (this.#isClosed || !this.#batch.send(bytes.subarray(start, end))) return false;
    this.#looks = MAX_LOOKS;
    if (!this.#isClosed) this.#looking ??= setTimeout(() => this.#look(), LOOK_MS);
    return true;
  }

  receive(handler: (payload: Uint8Array<ArrayBuffer>) => void): void {
    this.#handler = handler;
    void this.#read(handler);
  }

  abort(): void {
    this.#close(undefined);
  }

  async #read(handler: (payload: Uint8Array<ArrayBuffer>) => void): Promise<void> {
    const first = new Uint8Array(MAX_PAYLOAD);
    while (!this.#isClosed) {
      let payload;
      try {
        [payload] = await this.#socket.receive(first);
      } catch (error) {
        if (error instanceof Deno.errors.ConnectionRefused) return this.#refused();
        return this.#close(
          new DialError("ERR_UPSTREAM_UNREACHABLE", "Upstream's socket failed", { cause: error }),
        );
      }
      if (this.#isClosed) return;
      this.#looks = 0;
      handler(payload as Uint8Array<ArrayBuffer>);
      this.#drain(handler);
    }
  }

  #look(): void {
    this.#looking = undefined;
    if (this.#handler !== undefined) this.#drain(this.#handler);
    if (--this.#looks > 0 && !this.#isClosed) this.#looking = setTimeout(() => this.#look(), LOOK_MS);
  }

  /** Takes what else has come, without a promise for each. */
  #drain(handler: (payload: Uint8Array<ArrayBuffer>) => void): void {
    for (let count = 0; count < MAX_TURN && !this.#isClosed; count++) {
      const length = this.#libc.receive(this.#fd, BUFFER);
      if (length < 0) return this.#libc.errno === ECONNREFUSED ? this.#refused() : undefined;
      this.#looks = 0;
      handler(BUFFER.subarray(0, length));
    }
  }

  #refused(): void {
    this.#close(new DialError("ERR_UPSTREAM_REFUSED", "Nobody listens at the upstream's port"));
  }

  #close(error: DialError | undefined): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    clearTimeout(this.#looking);
    this.#batch.close();
    this.#socket.close();
    this.#settle(error);
  }
}
