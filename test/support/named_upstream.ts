/**
 * A TCP service that says its name to whoever connects and then keeps the connection open: tells a test where its
 * flow ended up, and lets it count flows.
 */

import { utf8, utf8Decode } from "../../src/base/bytes.ts";

/** A running upstream. */
export class NamedUpstream implements Disposable {
  readonly name: string;
  readonly port: number;
  /** Connections accepted so far. */
  accepted = 0;
  /** Bytes received on all of them. */
  received = 0;
  readonly #listener: Deno.TcpListener;
  readonly #open = new Set<Deno.TcpConn>();

  /** Listens on a free port of 127.0.0.1, or on one known before. */
  constructor(name: string, options: { readonly port?: number } = {}) {
    this.name = name;
    this.#listener = Deno.listen({ hostname: "127.0.0.1", port: options.port ?? 0 });
    this.port = this.#listener.addr.port;
    void this.#accept();
  }

  /** As a connector's config names it. */
  get upstream(): string {
    return `tcp://127.0.0.1:${this.port}`;
  }

  /** Connections open now. */
  get open(): number {
    return this.#open.size;
  }

  [Symbol.dispose](): void {
    this.#listener.close();
    for (const conn of this.#open) conn.close();
    this.#open.clear();
  }

  async #accept(): Promise<void> {
    for await (const conn of this.#listener) {
      this.accepted++;
      this.#open.add(conn);
      void this.#serve(conn);
    }
  }

  async #serve(conn: Deno.TcpConn): Promise<void> {
    const buffer = new Uint8Array(16_384);
    try {
      await conn.write(utf8(`${this.name}\n`));
      for (let count = await conn.read(buffer); count !== null; count = await conn.read(buffer)) {
        this.received += count;
      }
    } catch {
      // A reset ends the connection like anything else.
    }
    if (this.#open.delete(conn)) conn.close();
  }
}

/** Connects to a local port and reads the name said there; the connection stays open. */
export async function connectNamed(port: number): Promise<{ name: string; conn: Deno.TcpConn }> {
  const conn = await Deno.connect({ hostname: "127.0.0.1", port });
  try {
    const buffer = new Uint8Array(256);
    let text = "";
    while (!text.endsWith("\n")) {
      const count = await conn.read(buffer);
      if (count === null) throw new Error(`Ended after ${JSON.stringify(text)}`);
      text += utf8Decode(buffer.subarray(0, count));
    }
    return { name: text.trimEnd(), conn };
  } catch (error) {
    conn.close();
    throw error;
  }
}

/** Connects, reads the name, and ends the connection. */
export async function askName(port: number): Promise<string> {
  const { name, conn } = await connectNamed(port);
  conn.close();
  return name;
}
