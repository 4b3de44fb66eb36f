/**
 * A part of the demo that runs in a network namespace: this program again, started by `ip netns exec`. It ends when
 * its standard input does, and so also when this process is killed.
 */

import { ownCommand } from "../own_program.ts";

/** What to start, and where. */
export interface DemoProcessOptions {
  readonly namespace: string;
  /** As the hidden flag `--inside` takes it. */
  readonly part: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly onLine?: (line: string) => void;
}

/** Milliseconds that a part may take to end. */
const STOP_TIMEOUT_MS = 10_000;

/** A running part; disposing it ends it. */
export class DemoProcess implements AsyncDisposable {
  /** Resolves at its end with what it printed on standard error: why it ended, if it failed. */
  readonly ended: Promise<string>;
  readonly #child: Deno.ChildProcess;

  constructor({ namespace, part, env = {}, onLine = () => {} }: DemoProcessOptions) {
    const words = ["netns", "exec", namespace, ...ownCommand(), "dev", "--inside", part];
    this.#child = new Deno.Command("ip", {
      args: words,
      env: { ...env },
      stdin: "piped",
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    this.ended = this.#watch(onLine);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#child.stdin.close().catch(() => {/* it has ended */});
    const timer = setTimeout(() => this.#child.kill("SIGKILL"), STOP_TIMEOUT_MS);
    await this.ended;
    clearTimeout(timer);
  }

  async #watch(onLine: (line: string) => void): Promise<string> {
    const errors: string[] = [];
    const { stdout, stderr, status } = this.#child;
    await Promise.all([readLines(stdout, onLine), readLines(stderr, (line) => errors.push(line)), status]);
    return errors.join("\n");
  }
}

async function readLines(
  stream: ReadableStream<Uint8Array<ArrayBuffer>>,
  onLine: (line: string) => void,
): Promise<void> {
  let rest = "";
  for await (const text of stream.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + text).split("\n");
    rest = lines.pop()!;
    for (const line of lines) onLine(line);
  }
  if (rest !== "") onLine(rest);
}
