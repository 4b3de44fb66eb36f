/**
 * What the demo's own processes do inside its network namespaces. A part runs until its standard input ends; a Ctrl-C
 * in the terminal, which they hear as well, is left to the demo.
 */

import { errorMessage } from "../../base/errors.ts";
import { createLogger } from "../../base/log.ts";
import { loadConfig } from "../../config/parse_config.ts";
import { runMode } from "../../modes/run.ts";
import type { CommandIo } from "../ca.ts";

/** What came back for a web request. */
export interface Answer {
  readonly milliseconds: number;
  /** What the server said; absent: it was not reached. */
  readonly text?: string;
  readonly fault?: string;
}

/** Milliseconds that a web request may take. */
const ASK_TIMEOUT_MS = 5_000;

/** Runs a part: `node:CONFIG`, `web:ADDRESS,ADDRESS` or `ask:URL`. Prints what the demo waits for. */
export async function runInside(part: string, io: CommandIo): Promise<void> {
  Deno.addSignalListener("SIGINT", () => {});
  const [word] = part.split(":", 1);
  const rest = part.slice(word!.length + 1);
  switch (word) {
    case "node":
      return await runNode(rest, io);
    case "web":
      return await serveWeb(rest.split(","), io);
    case "ask":
      return io.stdout(JSON.stringify(await ask(rest)) + "\n");
    default:
      throw new TypeError(`Cannot run ${JSON.stringify(part)}: it is no part of the demo`);
  }
}

async function runNode(path: string, io: CommandIo): Promise<void> {
  const config = await loadConfig(path);
  const logger = createLogger({ level: config.log.level, write: io.stdout }).with({ mode: config.mode });
  const node = await runMode(config, { logger });
  await inputEnded();
  await node.shutdown("stopped by the user");
}

async function serveWeb(addresses: readonly string[], io: CommandIo): Promise<void> {
  const servers = addresses.map((hostname) =>
    Deno.serve({ hostname, port: 80, onListen: () => {} }, (_request, { remoteAddr }) => {
      const { hostname: who } = remoteAddr as Deno.NetAddr;
      return new Response(`Hello from ${hostname}. You come from ${who}.\n`);
    })
  );
  io.stdout("ready\n");
  await inputEnded();
  await Promise.all(servers.map((server) => server.shutdown()));
}

async function ask(url: string): Promise<Answer> {
  const started = performance.now();
  const took = () => performance.now() - started;
  try {
    const stopped = new AbortController();
    void inputEnded().then(() => stopped.abort());
    const signal = AbortSignal.any([stopped.signal, AbortSignal.timeout(ASK_TIMEOUT_MS)]);
    const response = await fetch(url, { signal });
    const text = await response.text();
    return { milliseconds: took(), text };
  } catch (error) {
    return { milliseconds: took(), fault: errorMessage(error) };
  }
}

async function inputEnded(): Promise<void> {
  // What comes is nothing to us, only that it ends.
  for await (const _ of Deno.stdin.readable);
}
