/** A way to a TCP port that can be shut and opened again: behind it a server is away without a process ending. */

import { freePort } from "./free_port.ts";

/** Forwards connections while it is open. */
export class TcpGate implements Disposable {
  readonly port = freePort();
  readonly #target: () => number;
  readonly #conns = new Set<Deno.TcpConn>();
  #listener: Deno.TcpListener | undefined;

  /** `target`: the port behind it. */
  constructor(target: () => number) {
    this.#target = target;
    this.open();
  }

  /** Lets connections through. */
  open(): void {
    if (this.#listener !== undefined) return;
    this.#listener = Deno.listen({ hostname: "127.0.0.1", port: this.port });
    void this.#accept(this.#listener);
  }

  /** Ends all connections and refuses others. */
  shut(): void {
    this.#listener?.close();
    this.#listener = undefined;
    for (const conn of this.#conns) this.#drop(conn);
  }

  [Symbol.dispose](): void {
    this.shut();
  }

  async #accept(listener: Deno.TcpListener): Promise<void> {
    for await (const near of listener) {
      this.#conns.add(near);
      void this.#join(near);
    }
  }

  async #join(near: Deno.TcpConn): Promise<void> {
    let far: Deno.TcpConn | undefined;
    try {
      far = await Deno.connect({ hostname: "127.0.0.1", port: this.#target() });
      // Shut meanwhile.
      if (!this.#conns.has(near)) return far.close();
      this.#conns.add(far);
      const [there, back] = [near.readable.pipeTo(far.writable), far.readable.pipeTo(near.writable)];
      await Promise.all([there, back]);
    } catch {
      // Either end gone is the end of both.
    }
    for (const conn of [near, far]) if (conn !== undefined) this.#drop(conn);
  }

  #drop(conn: Deno.TcpConn): void {
    if (!this.#conns.delete(conn)) return;
    try {
      conn.close();
    } catch (error) {
      // Its streams have closed it already.
      if (!(error instanceof Deno.errors.BadResource)) throw error;
    }
  }
}
