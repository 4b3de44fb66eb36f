/** Ordinary programs on a service ground's hosts, which name the upstream that answers them (`flow_client.py`). */

import type { ManagedProcess } from "./processes.ts";
import type { ServiceGround, ServiceHost } from "./service_ground.ts";

/** The port of every upstream. */
export const UPSTREAM_PORT = 7_000;

/** Who answered a new flow, or why nobody did, and after how many milliseconds. */
export interface Asked {
  readonly milliseconds: number;
  readonly by?: string;
  readonly error?: string;
}

/** A user's programs on one host. */
export class ServiceClients {
  readonly #ground: ServiceGround;
  readonly #host: ServiceHost;

  constructor(ground: ServiceGround, host: ServiceHost) {
    this.#ground = ground;
    this.#host = host;
  }

  /** One new TCP connection. */
  tcp(service: string): Promise<Asked> {
    return this.#ask("tcp", service);
  }

  /** One new socket that sends until it is answered. */
  udp(service: string): Promise<Asked> {
    return this.#ask("udp", service);
  }

  /** So many TCP connections at once; `by` are all that answered. */
  load(service: string, count: number): Promise<Asked> {
    return this.#ask("load", service, `${count}`);
  }

  /** One echo request; whether it was answered within two seconds. */
  async ping(service: string): Promise<boolean> {
    const command = ["ping", "-n", "-c", "1", "-W", "2", nameOf(service)];
    return await this.#ground.run(this.#host, command).then(() => true, () => false);
  }

  /** A flow in use all the time, and what has become of it. */
  async ticks(protocol: "tcp" | "udp", service: string): Promise<Ticks> {
    return await Ticks.start(this.#spawn(`${protocol}-ticks`, service));
  }

  /** An echo request every 200 ms. */
  pings(service: string): ManagedProcess {
    return this.#ground.spawn(this.#host, ["ping", "-n", "-i", "0.2", nameOf(service)]);
  }

  /** A TCP connection that says nothing until it is asked to. */
  async idle(service: string): Promise<{ readonly speak: () => Promise<Asked> }> {
    const process = this.#spawn("idle", service);
    await process.waitForLine(/^open /);
    return {
      speak: async () => {
        process.signal("SIGUSR1");
        return readAsked((await process.waitForLine(/^\d+ .+$/, { timeoutMs: 60_000 }))[0]);
      },
    };
  }

  /** Whether a name has an address. */
  async isNamed(name: string): Promise<boolean> {
    return await this.#ground.run(this.#host, ["getent", "ahosts", name]).then(() => true, () => false);
  }

  async #ask(what: string, service: string, ...rest: string[]): Promise<Asked> {
    return readAsked(await this.#ground.run(this.#host, command(what, service, ...rest)));
  }

  #spawn(what: string, service: string): ManagedProcess {
    return this.#ground.spawn(this.#host, command(what, service));
  }
}

/** A flow that is in use all the time. */
export class Ticks {
  readonly #process: ManagedProcess;

  private constructor(process: ManagedProcess) {
    this.#process = process;
  }

  /** Waits for the first answers. */
  static async start(process: ManagedProcess): Promise<Ticks> {
    await process.waitForLine(/^tick 3 /, { timeoutMs: 20_000 });
    return new Ticks(process);
  }

  /** The last one who answered, and how often somebody has. */
  get last(): { readonly by: string; readonly number: number } {
    const line = this.#process.lines.findLast((each) => each.startsWith("tick "))!;
    const [, number, by] = line.split(" ");
    return { by: by!, number: Number(number) };
  }

  /** Why it broke, or what its program was told. */
  get fault(): string | undefined {
    return this.#process.lines.find((line) => /^(?:broken|error) /.test(line));
  }
}

/** Starts the upstream of a connector's host, which answers with the host's name. */
export async function startUpstream(ground: ServiceGround, host: "conn1" | "conn2"): Promise<void> {
  const upstream = ground.spawn(host, ["python3", SCRIPT, "serve", host, `${UPSTREAM_PORT}`]);
  await upstream.waitForLine(/^serving$/);
}

/** A connector's entry for a service there. */
export function hosted(name: string, protocol: "tcp" | "udp" = "tcp"): object {
  return { name, upstream: `${protocol}://127.0.0.1:${UPSTREAM_PORT}` };
}

const SCRIPT = new URL("./flow_client.py", import.meta.url).pathname;

function command(what: string, service: string, ...rest: string[]): string[] {
  return ["python3", SCRIPT, what, nameOf(service), "80", ...rest];
}

function nameOf(service: string): string {
  return `${service}.ginnel.internal`;
}

function readAsked(line: string): Asked {
  const [, milliseconds, fault, by] = /^(\d+) (?:error (.+)|(.+))\s*$/.exec(line)!;
  return { milliseconds: Number(milliseconds), ...(fault === undefined ? { by: by! } : { error: fault }) };
}
