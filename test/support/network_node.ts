/**
 * One node of a test network, run inside the test's process or as a process of its own: both write log lines, and
 * both are waited for by what they log.
 */

import { createLogger } from "../../src/base/log.ts";
import { loadConfig } from "../../src/config/parse_config.ts";
import { runMode } from "../../src/modes/run.ts";
import type { Running } from "../../src/modes/running.ts";
import { eventually } from "./eventually.ts";
import type { ManagedProcess } from "./processes.ts";

/** A running node. */
export interface NetworkNode {
  readonly name: string;
  /** Its log lines, oldest first; a process keeps its last 200. */
  readonly lines: readonly string[];
  /** Resolves with the match of the first line, past or future, that `pattern` fits. */
  waitForLine(pattern: RegExp, options?: { readonly timeoutMs?: number }): Promise<RegExpExecArray>;
  /** What SIGHUP does; for a process, by SIGHUP. */
  reload(): Promise<void>;
  /** What SIGTERM does; resolves when the node has stopped. */
  stop(): Promise<void>;
}

/** Runs a node in this process, with the level its config names. */
export async function runInProcess(name: string, configPath: string): Promise<NetworkNode> {
  const lines: string[] = [];
  const config = await loadConfig(configPath);
  const logger = createLogger({ level: config.log.level, write: (line) => void lines.push(line.trimEnd()) });
  return new InProcessNode(name, { lines, running: await runMode(config, { logger }) });
}

/** Gives a process of the program the face of a node. */
export function processNode(process: ManagedProcess): NetworkNode {
  return {
    name: process.name,
    get lines() {
      return process.lines;
    },
    waitForLine: (pattern, options) => process.waitForLine(pattern, options),
    reload: () => {
      process.signal("SIGHUP");
      return Promise.resolve();
    },
    stop: async () => {
      await process.stop();
    },
  };
}

class InProcessNode implements NetworkNode {
  readonly name: string;
  readonly lines: readonly string[];
  readonly #running: Running;

  constructor(name: string, parts: { readonly lines: readonly string[]; readonly running: Running }) {
    this.name = name;
    this.lines = parts.lines;
    this.#running = parts.running;
  }

  waitForLine(
    pattern: RegExp,
    { timeoutMs = 15_000 }: { readonly timeoutMs?: number } = {},
  ): Promise<RegExpExecArray> {
    let seen = 0;
    return eventually(() => {
      while (seen < this.lines.length) {
        const match = pattern.exec(this.lines[seen++]!);
        if (match !== null) return match;
      }
      throw new Error(
        `${this.name} logged no ${pattern}; its last lines:\n${this.lines.slice(-20).join("\n")}`,
      );
    }, { timeout: timeoutMs });
  }

  reload(): Promise<void> {
    return this.#running.reload();
  }

  stop(): Promise<void> {
    return this.#running.shutdown("test ended");
  }
}
