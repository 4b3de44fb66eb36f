/**
 * A way from the test's own process to what listens in a network namespace: a port here, a Unix socket, which reaches
 * across, and a process there. Run as a program it is the latter: SOCKET PORT; prints "ready".
 */

import type { ManagedProcess } from "./processes.ts";

/** A port of the test's machine that leads to one of a host's; disposing it closes it with its connections. */
export class NamespaceDoor implements AsyncDisposable {
  readonly port: number;
  readonly #listener: Deno.TcpListener;
  readonly #process: ManagedProcess;
  readonly #connections = new Set<Deno.Conn>();
  readonly #accepting: Promise<void>;

  private constructor(process: ManagedProcess, path: string) {
    this.#process = process;
    this.#listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    this.port = this.#listener.addr.port;
    this.#accepting = this.#accept(path);
  }

  /** Opens it; `spawn` runs a command on the host, and the socket is made at `path`. */
  static async open(
    spawn: (command: readonly string[]) => ManagedProcess,
    { path, port }: { readonly path: string; readonly port: number },
  ): Promise<NamespaceDoor> {
    const script = new URL(import.meta.url).pathname;
    const process = spawn([
      ...[Deno.execPath(), "run", "--quiet", "--no-check", "--allow-all", "--unstable-net", script],
      ...[path, `${port}`],
    ]);
    await process.waitForLine(/^ready$/);
    return new NamespaceDoor(process, path);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    for (const connection of this.#connections) close(connection);
    await this.#accepting;
    await this.#process.stop({ signal: "SIGKILL" });
  }

  async #accept(path: string): Promise<void> {
    const running: Promise<void>[] = [];
    for await (const near of this.#listener) {
      running.push(this.#join(near, path));
    }
    await Promise.all(running);
  }

  async #join(near: Deno.Conn, path: string): Promise<void> {
    this.#connections.add(near);
    try {
      await joinConnections(near, await Deno.connect({ transport: "unix", path }));
    } catch {
      close(near);
    } finally {
      this.#connections.delete(near);
    }
  }
}

/** Passes on what comes from either side until both have ended; a broken one breaks the other. */
async function joinConnections(near: Deno.Conn, far: Deno.Conn): Promise<void> {
  const pipe = async (from: Deno.Conn, to: Deno.Conn) => {
    try {
      await from.readable.pipeTo(to.writable);
    } catch {
      close(from);
      close(to);
    }
  };
  await Promise.all([pipe(near, far), pipe(far, near)]);
}

function close(connection: Deno.Conn): void {
  try {
    connection.close();
  } catch {
    // It is closed.
  }
}

async function main([path = "", port = ""]: readonly string[]): Promise<void> {
  const listener = Deno.listen({ transport: "unix", path });
  console.log("ready");
  for await (const near of listener) {
    Deno.connect({ hostname: "127.0.0.1", port: Number(port) })
      .then((far) => joinConnections(near, far), () => close(near));
  }
}

if (import.meta.main) await main(Deno.args);
