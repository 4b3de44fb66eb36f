/**
 * A UDP socket of a test: disposable, and with the one question tests have about answers that must not come.
 */

/** A bound UDP socket. */
export class UdpSocket implements Disposable {
  readonly #socket: Deno.DatagramConn;

  constructor(options: { readonly hostname?: string; readonly port?: number } = {}) {
    const { hostname = "127.0.0.1", port = 0 } = options;
    this.#socket = Deno.listenDatagram({ hostname, port, transport: "udp" });
  }

  get address(): Deno.NetAddr {
    return this.#socket.addr as Deno.NetAddr;
  }

  async send(bytes: Uint8Array, target: { readonly hostname: string; readonly port: number }): Promise<void> {
    await this.#socket.send(bytes, { ...target, transport: "udp" });
  }

  /** The next datagram. */
  async receive(): Promise<Uint8Array<ArrayBuffer>> {
    const [bytes] = await this.#socket.receive(new Uint8Array(65_536));
    return bytes.slice() as Uint8Array<ArrayBuffer>;
  }

  /** Every datagram from now on, with its sender, until the socket is closed. */
  async *datagrams(): AsyncGenerator<
    { readonly bytes: Uint8Array<ArrayBuffer>; readonly from: Deno.NetAddr }
  > {
    for await (const [bytes, from] of this.#socket) {
      yield { bytes: bytes.slice() as Uint8Array<ArrayBuffer>, from: from as Deno.NetAddr };
    }
  }

  /**
   * Everything that has reached the socket by now, without waiting for more: a datagram of ours goes in behind
   * it, and loopback keeps the order.
   */
  async received(): Promise<Uint8Array<ArrayBuffer>[]> {
    const mark = crypto.getRandomValues(new Uint8Array(16));
    using marker = new UdpSocket({ hostname: this.address.hostname });
    await marker.send(mark, this.address);
    const all: Uint8Array<ArrayBuffer>[] = [];
    for (;;) {
      const datagram = await this.receive();
      if (datagram.join() === mark.join()) return all;
      all.push(datagram);
    }
  }

  [Symbol.dispose](): void {
    this.#socket.close();
  }
}
