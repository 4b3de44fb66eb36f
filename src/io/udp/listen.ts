/**
 * A UDP socket for local programs: hands on what comes, answers without waiting, and drops what the system does not
 * take.
 */

import { formatHostPort, type HostPort } from "../../base/address.ts";
import { sleep } from "../../base/async.ts";
import { listenError } from "../../base/listen_error.ts";

/** Bytes of the largest UDP payload, and one more. */
const BUFFER_BYTES = 65_536;

/**
 * Answers that the system has not taken yet; further ones are dropped, as everywhere on a datagram's way. With 1,200
 * bytes each about 1.2 MiB.
 */
const MAX_PENDING = 1_024;

/** Milliseconds to wait after an error before the next receive. */
const ERROR_PAUSE = 5;

/** An open socket. */
export interface UdpListener extends AsyncDisposable {
  /** The bound address; its port is the real one when 0 was asked for. */
  readonly address: HostPort;
  /** Sends a copy of `bytes`; false when it was dropped. */
  send(bytes: Uint8Array<ArrayBuffer>, to: HostPort): boolean;
  /** Stops; resolves when the port is free again. Idempotent. */
  close(): Promise<void>;
}

/** Takes what a local program sent; the bytes are valid until it returns. */
export type UdpHandler = (bytes: Uint8Array<ArrayBuffer>, from: HostPort) => void;

/** Binds `address` and hands every datagram to `handler`; throws `ERR_LISTEN_*` when it cannot be bound. */
export function listenUdp(address: HostPort, handler: UdpHandler): UdpListener {
  const { hostname, port } = address;
  try {
    return new UdpSocketListener(Deno.listenDatagram({ transport: "udp", hostname, port }), handler);
  } catch (cause) {
    throw listenError(`udp ${formatHostPort(address)}`, cause);
  }
}

class UdpSocketListener implements UdpListener {
  readonly address: HostPort;
  readonly #socket: Deno.DatagramConn;
  readonly #handler: UdpHandler;
  #pending = 0;
  readonly #receiving: Promise<void>;
  #isClosed = false;

  constructor(socket: Deno.DatagramConn, handler: UdpHandler) {
    const { hostname, port } = socket.addr as Deno.NetAddr;
    this.address = { hostname, port };
    this.#socket = socket;
    this.#handler = handler;
    this.#receiving = this.#receive();
  }

  send(bytes: Uint8Array<ArrayBuffer>, to: HostPort): boolean {
    if (this.#isClosed || this.#pending >= MAX_PENDING) return false;
    this.#pending++;
    const sent = () => void this.#pending--;
    // A client that went away is told by nobody, as with any datagram.
    this.#socket.send(bytes.slice(), { transport: "udp", hostname: to.hostname, port: to.port }).then(
      sent,
      sent,
    );
    return true;
  }

  close(): Promise<void> {
    if (!this.#isClosed) {
      this.#isClosed = true;
      this.#socket.close();
    }
    return this.#receiving;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #receive(): Promise<void> {
    const buffer = new Uint8Array(BUFFER_BYTES);
    while (!this.#isClosed) {
      try {
        const [bytes, from] = await this.#socket.receive(buffer);
        const { hostname, port } = from as Deno.NetAddr;
        this.#handler(bytes as Uint8Array<ArrayBuffer>, { hostname, port });
      } catch {
        // An ICMP error for an answer of ours ends one receive, not the socket; a closed one ends the loop.
        if (!this.#isClosed) await sleep(ERROR_PAUSE);
      }
    }
  }
}
