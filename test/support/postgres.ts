/**
 * A real PostgreSQL server for tests: Debian's binaries in a folder of their own, on a port of the loopback interface,
 * never as root.
 */

import postgres from "postgres";
import { freePort } from "./free_port.ts";
import { ManagedProcess } from "./processes.ts";
import { needsTool, type Requirement } from "./require_tool.ts";

/** Where Debian puts the binaries of each version. */
const VERSIONS = "/usr/lib/postgresql";

/** Who runs the server when the tests run as root. */
const USER = "postgres";

const PASSWORD = "not a secret: this server lives as long as a test";

/** Requires PostgreSQL's server programs. */
export function needsPostgres(): Requirement {
  return needsTool("postgres", { install: "apt-get install -y postgresql", paths: paths("postgres") });
}

/** How to start a server. */
export interface PostgresOptions {
  /** Whether a commit is on disk when it is acknowledged, as outside of tests; default false. */
  readonly isDurable?: boolean;
  /** The command line that runs a command where the server is to be, such as in a network namespace; default here. */
  readonly place?: (command: readonly string[]) => readonly string[];
}

/** A running server; disposing stops it and removes its folder. */
export class PostgresServer implements AsyncDisposable {
  readonly #folder: string;
  readonly #port: number;
  readonly #isDurable: boolean;
  readonly #place: (command: readonly string[]) => readonly string[];
  #process: ManagedProcess | undefined;
  #databases = 0;

  private constructor(folder: string, port: number, options: PostgresOptions) {
    const { isDurable = false, place = (command) => command } = options;
    this.#folder = folder;
    this.#port = port;
    this.#isDurable = isDurable;
    this.#place = place;
  }

  /** Makes and starts a server. */
  static async start(options: PostgresOptions = {}): Promise<PostgresServer> {
    const folder = await Deno.makeTempDir({ prefix: "ginnel-postgres-" });
    const server = new PostgresServer(folder, freePort(), options);
    try {
      await Deno.writeTextFile(`${folder}/password`, PASSWORD);
      await giveAway(folder);
      const { code, stderr } = await new Deno.Command(...command("initdb", [
        ...["-D", `${folder}/data`, "-U", USER, "-A", "scram-sha-256", `--pwfile=${folder}/password`],
        ...["-E", "UTF8", "--locale=C.UTF-8", "--no-sync"],
      ])).output();
      if (code !== 0) throw new Error(`initdb failed: ${new TextDecoder().decode(stderr)}`);
      await server.start();
      return server;
    } catch (error) {
      await server[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** The URL of the database that is there from the start, as the server's own host sees it. */
  get url(): string {
    return this.#url("postgres");
  }

  /** The server's process id. */
  get pid(): number {
    return this.#process!.pid;
  }

  /** Starts it again after {@linkcode stop}. */
  async start(): Promise<void> {
    const settings = [
      "listen_addresses=127.0.0.1",
      `port=${this.#port}`,
      `unix_socket_directories=${this.#folder}`,
      "shared_buffers=64MB",
      "logging_collector=off",
      ...(this.#isDurable ? [] : ["fsync=off", "synchronous_commit=off"]),
    ];
    const [program, { args }] = command("postgres", [
      "-D",
      `${this.#folder}/data`,
      ...settings.flatMap((setting) => ["-c", setting]),
    ]);
    this.#process = ManagedProcess.spawn(this.#place([program, ...args]), { name: "postgres" });
    await this.#process.waitForLine(/database system is ready to accept connections/, { timeoutMs: 30_000 });
  }

  /** Ends it as a crash would (`SIGKILL` ends all its processes), or in order. */
  async stop(signal: "SIGQUIT" | "SIGINT" = "SIGINT"): Promise<void> {
    if (this.#process?.running !== true) return;
    Deno.kill(this.#process.pid, signal);
    await this.#process.ended;
  }

  /** Makes a database; returns its URL. */
  async createDatabase(): Promise<string> {
    const name = `test_${++this.#databases}`;
    await this.#administer(`CREATE DATABASE ${name}`);
    return this.#url(name);
  }

  /** Ends all connections to the databases made here, as a failing network would. */
  async cutConnections(): Promise<void> {
    await this.#administer(
      "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname LIKE 'test_%'",
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    await Deno.remove(this.#folder, { recursive: true });
  }

  async #administer(statement: string): Promise<void> {
    const sql = postgres(this.#url("postgres"), { max: 1, fetch_types: false });
    try {
      await sql.unsafe(statement);
    } finally {
      await sql.end();
    }
  }

  #url(database: string): string {
    return `postgres://${USER}:${encodeURIComponent(PASSWORD)}@127.0.0.1:${this.#port}/${database}`;
  }
}

function paths(program: string): string[] {
  try {
    return [...Deno.readDirSync(VERSIONS)].map(({ name }) => name).sort((a, b) => Number(b) - Number(a))
      .map((version) => `${VERSIONS}/${version}/bin/${program}`);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return [];
    throw error;
  }
}

/** The command for a program of the server, as another user where we are root. */
function command(
  program: string,
  args: readonly string[],
): [string, { args: string[]; stdout: "null"; stderr: "piped" }] {
  const path = paths(program)[0] ?? program;
  const pipes = { stdout: "null", stderr: "piped" } as const;
  if (Deno.uid() !== 0) return [path, { args: [...args], ...pipes }];
  const user = [`--reuid=${USER}`, `--regid=${USER}`, "--init-groups"];
  return ["setpriv", { args: [...user, path, ...args], ...pipes }];
}

async function giveAway(folder: string): Promise<void> {
  if (Deno.uid() !== 0) return;
  const { code } = await new Deno.Command("chown", { args: ["-R", `${USER}:`, folder] }).output();
  if (code !== 0) throw new Error(`Cannot give ${folder} to ${USER}`);
}
