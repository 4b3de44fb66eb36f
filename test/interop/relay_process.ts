/**
 * The relay that foreign clients talk to: the real program in its own process, with a connector that offers an
 * echo service as `echo` (open to clients without end-to-end sessions) and as `sealed` (not open to them).
 */

import { loadIdentity } from "../../src/identity/identity_file.ts";
import { createProof } from "../../src/identity/proof.ts";
import { Deployment, RELAY_NAME } from "../support/deployment.ts";
import type { ManagedProcess } from "../support/processes.ts";

const LOOPBACK = "127.0.0.1";

/** A relay with an echo service behind it; disposing it stops both. */
export class RelayProcess implements AsyncDisposable {
  /** UDP port of the relay on loopback. */
  readonly port: number;
  /** File with the CA's certificate. */
  readonly rootFile: string;
  /** The relay's own identity file. */
  readonly identityFile: string;
  readonly relay: ManagedProcess;
  readonly #deployment: Deployment;
  readonly #echo: EchoServer;

  private constructor(
    parts: {
      readonly deployment: Deployment;
      readonly echo: EchoServer;
      readonly relay: ManagedProcess;
      readonly port: number;
    },
  ) {
    this.#deployment = parts.deployment;
    this.#echo = parts.echo;
    this.relay = parts.relay;
    this.port = parts.port;
    this.identityFile = `${parts.deployment.folder}/${RELAY_NAME}.identity.json`;
    this.rootFile = `${parts.deployment.folder}/ca/ca.crt`;
  }

  /** Starts relay and connector and waits until the services are bound. */
  static async start(): Promise<RelayProcess> {
    const deployment = await Deployment.create({
      services: [{ name: "echo", endToEnd: "optional" }, { name: "sealed" }],
    });
    const echo = new EchoServer();
    try {
      const relay = await deployment.startRelay({ listen: { quic: `${LOOPBACK}:0`, tls: null } });
      const [, port] = await relay.waitForLine(/"quic":"127\.0\.0\.1:(\d+)"/);
      const upstream = `tcp://${LOOPBACK}:${echo.port}`;
      const connector = await deployment.start("connector-1", {
        mode: "connector",
        identity: await deployment.issue("connector", "connector-1"),
        relays: [{ name: RELAY_NAME, address: `${LOOPBACK}:${port}` }],
        services: [{ name: "echo", upstream }, { name: "sealed", upstream }],
        carrier: "quic",
      });
      await connector.waitForLine(/"service_bound".*"echo"/);
      await connector.waitForLine(/"service_bound".*"sealed"/);
      await deployment.issue("agent", "foreigner");
      return new RelayProcess({ deployment, echo, relay, port: Number(port) });
    } catch (error) {
      await echo[Symbol.asyncDispose]();
      await deployment[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** A fresh proof of the agent `foreigner`, good for one connection. */
  async proof(): Promise<string> {
    const identity = await loadIdentity(`${this.#deployment.folder}/foreigner.identity.json`);
    return await createProof({ identity, audience: RELAY_NAME, now: Date.now() });
  }

  /** What the echo upstream has received so far, in bytes. */
  get upstreamBytes(): number {
    return this.#echo.bytes;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#deployment[Symbol.asyncDispose]();
    await this.#echo[Symbol.asyncDispose]();
  }
}

/** Echoes every connection until its end, then ends its own direction. */
class EchoServer implements AsyncDisposable {
  readonly #listener = Deno.listen({ hostname: LOOPBACK, port: 0 });
  readonly #open = new Set<Deno.Conn>();
  readonly #accepting = this.#accept();
  bytes = 0;

  get port(): number {
    return (this.#listener.addr as Deno.NetAddr).port;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    for (const connection of this.#open) connection.close();
    await this.#accepting;
  }

  async #accept(): Promise<void> {
    const echoes = [];
    for await (const connection of this.#listener) echoes.push(this.#echo(connection));
    await Promise.all(echoes);
  }

  async #echo(connection: Deno.TcpConn): Promise<void> {
    this.#open.add(connection);
    const count = new TransformStream<Uint8Array<ArrayBuffer>, Uint8Array<ArrayBuffer>>({
      transform: (chunk, controller) => {
        this.bytes += chunk.length;
        controller.enqueue(chunk);
      },
    });
    try {
      await connection.readable.pipeThrough(count).pipeTo(connection.writable);
    } catch (error) {
      if (!(error instanceof Deno.errors.BadResource) && !(error instanceof Deno.errors.ConnectionReset)) {
        throw error;
      }
    } finally {
      this.#open.delete(connection);
    }
  }
}
