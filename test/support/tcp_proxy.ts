/** A TCP connection through it can be cut, as a network that fails does: what is there hangs, and nothing new comes. */

/** Passes connections on until it is told otherwise. */
export class TcpProxy implements Disposable {
  readonly port: number;
  readonly #listener: Deno.TcpListener;
  readonly #target: Deno.ConnectOptions;
  readonly #conns = new Set<Deno.Conn>();
  /** Resolves when bytes pass. */
  #open = Promise.withResolvers<void>();

  constructor(target: Deno.ConnectOptions) {
    this.#target = target;
    this.#listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    this.port = this.#listener.addr.port;
    this.#open.resolve();
    void this.#accept();
  }

  /** From now on no byte passes. */
  cut(): void {
    this.#open = Promise.withResolvers();
  }

  /** Ends what hung, and lets through what comes. */
  heal(): void {
    for (const conn of this.#conns) close(conn);
    this.#conns.clear();
    this.#open.resolve();
  }

  [Symbol.dispose](): void {
    this.#listener.close();
    this.heal();
  }

  async #accept(): Promise<void> {
    for await (const conn of this.#listener) void this.#serve(conn);
  }

  async #serve(conn: Deno.Conn): Promise<void> {
    this.#conns.add(conn);
    await this.#open.promise;
    if (!this.#conns.has(conn)) return;
    try {
      const target = await Deno.connect(this.#target);
      this.#conns.add(target);
      await Promise.all([this.#pass(conn, target), this.#pass(target, conn)]);
    } catch {
      // Whichever end is gone, so is the other.
    }
    close(conn);
  }

  async #pass(from: Deno.Conn, to: Deno.Conn): Promise<void> {
    const buffer = new Uint8Array(65_536);
    try {
      for (let count = await from.read(buffer); count !== null; count = await from.read(buffer)) {
        await this.#open.promise;
        for (let sent = 0; sent < count;) sent += await to.write(buffer.subarray(sent, count));
      }
    } finally {
      close(to);
    }
  }
}

function close(conn: Deno.Conn): void {
  try {
    conn.close();
  } catch {
    // It is closed.
  }
}
