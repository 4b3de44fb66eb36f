/** A TCP service that remembers everything it was told, and echoes it unless told to be silent. */

import { concat } from "../../src/base/bytes.ts";

/** How one of the service's connections ended. */
export type ConnectionEnd = "open" | "ended" | "reset";

/** One connection to the service. */
export interface RecordedConnection {
  readonly conn: Deno.TcpConn;
  readonly bytes: Uint8Array;
  readonly end: ConnectionEnd;
}

/** A running upstream. */
export class RecordingUpstream implements Disposable {
  /** In the order of arrival. */
  readonly connections: RecordedConnection[] = [];
  readonly #echoes: boolean;
  readonly #listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });

  constructor({ echoes = true }: { readonly echoes?: boolean } = {}) {
    this.#echoes = echoes;
    void this.#accept();
  }

  /** As a connector's config names it. */
  get url(): string {
    return `tcp://127.0.0.1:${this.#listener.addr.port}`;
  }

  /** Everything received on all connections, as text. */
  get text(): string {
    return new TextDecoder().decode(concat(this.connections.map(({ bytes }) => bytes)));
  }

  [Symbol.dispose](): void {
    this.#listener.close();
    for (const { conn, end } of this.connections) if (end === "open") conn.close();
  }

  async #accept(): Promise<void> {
    for await (const conn of this.#listener) {
      const connection = { conn, bytes: new Uint8Array(), end: "open" as ConnectionEnd };
      this.connections.push(connection);
      void this.#serve(connection);
    }
  }

  async #serve(
    connection: { readonly conn: Deno.TcpConn; bytes: Uint8Array; end: ConnectionEnd },
  ): Promise<void> {
    const { conn } = connection;
    const buffer = new Uint8Array(65_536);
    try {
      for (let count = await conn.read(buffer); count !== null; count = await conn.read(buffer)) {
        const received = buffer.slice(0, count);
        connection.bytes = concat([connection.bytes, received]);
        if (this.#echoes) await conn.write(received);
      }
      connection.end = "ended";
    } catch (error) {
      if (error instanceof Deno.errors.BadResource || error instanceof Deno.errors.Interrupted) return;
      connection.end = "reset";
    }
    conn.close();
  }
}
