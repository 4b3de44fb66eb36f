/**
 * Child processes for tests and benches: readiness by a line of output, stop by pid, CPU and memory from /proc.
 * A process is ended only through its own handle, never by name.
 */

/** Output lines a {@linkcode ManagedProcess} keeps for error messages; older ones are dropped. */
const KEPT_LINES = 200;
/** How long output is still read after the process has ended. */
const OUTPUT_GRACE_MS = 500;
/** Kernel clock ticks per second in /proc (USER_HZ, the same on every Linux architecture Deno runs on). */
const TICKS_PER_SECOND = 100;

/** How to start a process. */
export interface SpawnOptions {
  /** Name for messages; default the program's file name. */
  readonly name?: string;
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
}

/** What a process has used since its start. */
export interface ProcessUsage {
  /** User and system time of all its threads. */
  readonly cpuSeconds: number;
  /** Resident memory now. */
  readonly rssBytes: number;
  /** Highest resident memory so far. */
  readonly peakRssBytes: number;
}

interface Waiter {
  readonly pattern: RegExp;
  resolve(match: RegExpExecArray): void;
  reject(error: Error): void;
}

/** A child process whose output is read line by line; disposing it stops it. */
export class ManagedProcess implements AsyncDisposable {
  readonly name: string;
  readonly pid: number;
  /** Resolves when the process has ended and all its output was read. */
  readonly ended: Promise<Deno.CommandStatus>;
  readonly #child: Deno.ChildProcess;
  readonly #lines: string[] = [];
  readonly #waiters = new Set<Waiter>();
  #running = true;

  private constructor(child: Deno.ChildProcess, name: string) {
    this.#child = child;
    this.name = name;
    this.pid = child.pid;
    this.ended = this.#drain();
  }

  /** Starts `command[0]` with the rest as its arguments. */
  static spawn(command: readonly string[], options: SpawnOptions = {}): ManagedProcess {
    const [program, ...args] = command;
    if (program === undefined) throw new RangeError("Cannot spawn an empty command");
    const child = new Deno.Command(program, {
      args,
      stdin: "null",
      stdout: "piped",
      stderr: "piped",
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
      ...(options.env === undefined ? {} : { env: { ...options.env } }),
    }).spawn();
    return new ManagedProcess(child, options.name ?? program.slice(program.lastIndexOf("/") + 1));
  }

  /** Whether the process still runs. */
  get running(): boolean {
    return this.#running;
  }

  /** The last lines of both outputs, in order of arrival. */
  get lines(): readonly string[] {
    return this.#lines;
  }

  /** Resolves with the match of the first line, past or future, that `pattern` fits; rejects when the process ends or time runs out. */
  async waitForLine(
    pattern: RegExp,
    options: { readonly timeoutMs?: number } = {},
  ): Promise<RegExpExecArray> {
    for (const line of this.#lines) {
      const match = pattern.exec(line);
      if (match) return match;
    }
    if (!this.#running) throw this.#failure(`ended before printing ${pattern}`);
    const { timeoutMs = 15_000 } = options;
    const { promise, resolve, reject } = Promise.withResolvers<RegExpExecArray>();
    const waiter: Waiter = { pattern, resolve, reject };
    this.#waiters.add(waiter);
    const timer = setTimeout(
      () => reject(this.#failure(`printed no ${pattern} within ${timeoutMs} ms`)),
      timeoutMs,
    );
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
      this.#waiters.delete(waiter);
    }
  }

  /** CPU time and memory so far, from /proc; throws when the process has ended. */
  usage(): ProcessUsage {
    const stat = Deno.readTextFileSync(`/proc/${this.pid}/stat`);
    // The second field is the program's name in parentheses and may hold spaces: count from its end.
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    const status = Deno.readTextFileSync(`/proc/${this.pid}/status`);
    return {
      cpuSeconds: (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND,
      rssBytes: kibibytes(status, "VmRSS") * 1024,
      peakRssBytes: kibibytes(status, "VmHWM") * 1024,
    };
  }

  /** Sends one signal, if the process still runs. */
  signal(name: Deno.Signal): void {
    if (this.#running) this.#child.kill(name);
  }

  /** Sends `signal`, and SIGKILL when the process outlives `graceMs`; resolves when it has ended. */
  async stop(
    options: { readonly signal?: Deno.Signal; readonly graceMs?: number } = {},
  ): Promise<Deno.CommandStatus> {
    const { signal = "SIGTERM", graceMs = 5_000 } = options;
    this.signal(signal);
    const timer = setTimeout(() => this.signal("SIGKILL"), graceMs);
    try {
      return await this.ended;
    } finally {
      clearTimeout(timer);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  async #drain(): Promise<Deno.CommandStatus> {
    const readers = [this.#child.stdout.getReader(), this.#child.stderr.getReader()];
    const collected = Promise.all(readers.map((reader) => this.#collect(reader)));
    const status = await this.#child.status;
    this.#running = false;
    // A grandchild may hold the outputs open for as long as it lives.
    const timer = setTimeout(() => readers.forEach((reader) => reader.cancel()), OUTPUT_GRACE_MS);
    await collected;
    clearTimeout(timer);
    for (const waiter of this.#waiters) {
      waiter.reject(this.#failure(`ended before printing ${waiter.pattern}`));
    }
    return status;
  }

  async #collect(reader: ReadableStreamDefaultReader<Uint8Array>): Promise<void> {
    const decoder = new TextDecoder();
    let rest = "";
    for (let chunk = await reader.read(); !chunk.done; chunk = await reader.read()) {
      const lines = (rest + decoder.decode(chunk.value, { stream: true })).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) this.#take(line);
    }
    if (rest !== "") this.#take(rest);
  }

  #take(line: string): void {
    this.#lines.push(line);
    if (this.#lines.length > KEPT_LINES) this.#lines.shift();
    for (const waiter of this.#waiters) {
      const match = waiter.pattern.exec(line);
      if (match) waiter.resolve(match);
    }
  }

  #failure(what: string): Error {
    return new Error(
      `${this.name} (pid ${this.pid}) ${what}; its last lines:\n${this.#lines.slice(-20).join("\n")}`,
    );
  }
}

/** Runs a command to its end; throws with its output when it fails. */
export async function runCommand(
  command: readonly string[],
  options: SpawnOptions & { readonly stdin?: string } = {},
): Promise<string> {
  const [program, ...args] = command;
  if (program === undefined) throw new RangeError("Cannot run an empty command");
  const child = new Deno.Command(program, {
    args,
    stdin: options.stdin === undefined ? "null" : "piped",
    stdout: "piped",
    stderr: "piped",
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    ...(options.env === undefined ? {} : { env: { ...options.env } }),
  }).spawn();
  if (options.stdin !== undefined) {
    const writer = child.stdin.getWriter();
    await writer.write(new TextEncoder().encode(options.stdin));
    await writer.close();
  }
  const { code, stdout, stderr } = await child.output();
  const decoder = new TextDecoder();
  const text = decoder.decode(stdout);
  if (code !== 0) {
    throw new Error(`${command.join(" ")} exited with ${code}: ${(decoder.decode(stderr) + text).trim()}`);
  }
  return text;
}

function kibibytes(status: string, field: string): number {
  const match = new RegExp(`^${field}:\\s+(\\d+) kB$`, "m").exec(status);
  if (!match) throw new Error(`Cannot read ${field}: the process has ended`);
  return Number(match[1]);
}
