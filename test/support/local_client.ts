/** A local client of an agent: speaks through a forward, or asks the HTTP proxy for a flow. */

import { utf8, utf8Decode } from "../../src/base/bytes.ts";

/** A connection to one of an agent's listeners. */
export class LocalClient implements Disposable {
  readonly #conn: Deno.TcpConn;
  #isClosed = false;

  static async connect(port: number): Promise<LocalClient> {
    return new LocalClient(await Deno.connect({ hostname: "127.0.0.1", port }));
  }

  private constructor(conn: Deno.TcpConn) {
    this.#conn = conn;
  }

  async send(text: string): Promise<void> {
    await this.#conn.write(utf8(text));
  }

  /** Sends, and reads as much as was sent. */
  async ask(text: string): Promise<string> {
    await this.send(text);
    return await this.readUntil((answer) => answer.length >= text.length);
  }

  /** Reads until `isDone` or the end; a reset rejects. */
  async readUntil(isDone: (text: string) => boolean): Promise<string> {
    const buffer = new Uint8Array(16_384);
    let text = "";
    while (!isDone(text)) {
      const count = await this.#conn.read(buffer);
      if (count === null) break;
      text += utf8Decode(buffer.subarray(0, count));
    }
    return text;
  }

  /** Reads to the end and closes; a reset rejects. */
  async readToEnd(): Promise<string> {
    try {
      return await this.readUntil(() => false);
    } finally {
      this.close();
    }
  }

  close(): void {
    if (!this.#isClosed) this.#conn.close();
    this.#isClosed = true;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** What an HTTP proxy said to CONNECT. */
export interface ProxyAnswer {
  readonly status: number;
  /** Head of the answer, and the body if the flow was refused. */
  readonly text: string;
  /** The flow; closed if it was refused. */
  readonly client: LocalClient;
}

/** Asks the proxy at a local port for a flow to a service. */
export async function askProxy(port: number, service: string): Promise<ProxyAnswer> {
  const client = await LocalClient.connect(port);
  await client.send(`CONNECT ${service}.ginnel.internal:443 HTTP/1.1\r\nHost: ${service}\r\n\r\n`);
  const head = await client.readUntil((text) => text.includes("\r\n\r\n"));
  const status = Number(/^HTTP\/1\.1 (\d{3})/.exec(head)?.[1]);
  return { status, client, text: status === 200 ? head : head + await client.readToEnd() };
}

/** The status alone; a flow that was granted is closed. */
export async function proxyStatus(port: number, service: string): Promise<number> {
  const { status, client } = await askProxy(port, service);
  client.close();
  return status;
}
