/** A proxy in front of a relay, on UDP and TCP, that keeps every byte it carries in either direction. */

import { UdpSocket } from "./udp_socket.ts";

/** Records what goes between nodes and one relay; disposing it ends all connections through it. */
export class WireRecorder implements Disposable {
  readonly name: string;
  readonly port: number;
  /** Everything carried so far, piece by piece, of both directions and both transports. */
  readonly pieces: Uint8Array[] = [];
  readonly #relay: { readonly hostname: string; readonly port: number };
  readonly #udp: UdpSocket;
  readonly #tcp: Deno.TcpListener;
  readonly #clients = new Map<string, UdpSocket>();
  readonly #connections = new Set<Deno.TcpConn>();
  #isClosed = false;

  constructor(relay: { readonly name: string; readonly port: number }, port: number) {
    this.name = relay.name;
    this.port = port;
    this.#relay = { hostname: "127.0.0.1", port: relay.port };
    this.#udp = new UdpSocket({ port });
    this.#tcp = Deno.listen({ hostname: "127.0.0.1", port });
    void this.#carryDatagrams();
    void this.#carryConnections();
  }

  /** Bytes carried so far. */
  get size(): number {
    return this.pieces.reduce((sum, piece) => sum + piece.length, 0);
  }

  [Symbol.dispose](): void {
    this.#isClosed = true;
    this.#udp[Symbol.dispose]();
    this.#tcp.close();
    for (const client of this.#clients.values()) client[Symbol.dispose]();
    for (const connection of this.#connections) connection.close();
  }

  async #carryDatagrams(): Promise<void> {
    for await (const { bytes, from } of this.#udp.datagrams()) {
      this.pieces.push(bytes);
      const key = `${from.hostname} ${from.port}`;
      let client = this.#clients.get(key);
      if (client === undefined) {
        client = new UdpSocket();
        this.#clients.set(key, client);
        void this.#answer(client, from);
      }
      await client.send(bytes, this.#relay).catch(() => {/* closed meanwhile */});
    }
  }

  async #answer(client: UdpSocket, to: Deno.NetAddr): Promise<void> {
    for await (const { bytes } of client.datagrams()) {
      this.pieces.push(bytes);
      await this.#udp.send(bytes, to).catch(() => {/* closed meanwhile */});
    }
  }

  async #carryConnections(): Promise<void> {
    for await (const near of this.#tcp) {
      const far = await Deno.connect(this.#relay);
      this.#connections.add(near).add(far);
      void Promise.all([this.#carry(near, far), this.#carry(far, near)]).then(() => {
        for (const connection of [near, far]) {
          if (this.#connections.delete(connection) && !this.#isClosed) connection.close();
        }
      });
    }
  }

  async #carry(from: Deno.TcpConn, to: Deno.TcpConn): Promise<void> {
    const buffer = new Uint8Array(65_536);
    try {
      for (let count = await from.read(buffer); count !== null; count = await from.read(buffer)) {
        const piece = buffer.slice(0, count);
        this.pieces.push(piece);
        for (let sent = 0; sent < count;) sent += await to.write(piece.subarray(sent));
      }
      await to.closeWrite();
    } catch {
      // One side broke off: so does the other when its turn comes.
    }
  }
}
