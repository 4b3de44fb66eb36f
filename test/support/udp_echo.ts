/**
 * A UDP server on loopback that sends back what comes, and remembers from whom it came.
 */

/** A running echo. */
export class UdpEcho implements AsyncDisposable {
  /** Who sent each datagram, in the order they came. */
  readonly from: Deno.NetAddr[] = [];
  /** What was in them. */
  readonly payloads: Uint8Array[] = [];
  readonly #socket: Deno.DatagramConn;
  readonly #running: Promise<void>;

  /** Listens on a free port, or the given one. */
  static start(hostname = "127.0.0.1", port = 0): UdpEcho {
    return new UdpEcho(Deno.listenDatagram({ transport: "udp", hostname, port }));
  }

  private constructor(socket: Deno.DatagramConn) {
    this.#socket = socket;
    this.#running = this.#echo();
  }

  get port(): number {
    return (this.#socket.addr as Deno.NetAddr).port;
  }

  /** Sends a datagram that nobody asked for. */
  async send(bytes: Uint8Array, to: { readonly hostname: string; readonly port: number }): Promise<void> {
    await this.#socket.send(bytes, { ...to, transport: "udp" });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#socket.close();
    await this.#running;
  }

  async #echo(): Promise<void> {
    try {
      for await (const [bytes, from] of this.#socket) {
        this.from.push(from as Deno.NetAddr);
        this.payloads.push(bytes.slice());
        await this.#socket.send(bytes, from).catch(() => {});
      }
    } catch (error) {
      if (!(error instanceof Deno.errors.BadResource)) throw error;
    }
  }
}
