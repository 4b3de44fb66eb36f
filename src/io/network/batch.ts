/**
 * Lines for `ip -batch`, each with the line that takes it back: a batch that stops half-way is taken back whole.
 */

import type { Logger } from "../../base/log.ts";
import { commandError, type Commands, type Invocation } from "./commands.ts";

/** One change. */
export interface Step {
  /** As after the word `ip`. */
  readonly run: string;
  /** The line that undoes it. */
  readonly undo: string;
}

/** Whose commands, and for what. */
export interface BatchOptions {
  readonly commands: Commands;
  readonly logger: Logger;
  /** What the batch is for, as it stands in an error after "Cannot". */
  readonly purpose: string;
}

/** Runs the steps in order; when one fails, undoes those before it and throws. No steps, no command. */
export async function runBatch(steps: readonly Step[], options: BatchOptions): Promise<void> {
  if (steps.length === 0) return;
  const { commands, logger, purpose } = options;
  const result = await commands.run("ip", ["-batch", "-"], linesOf(steps.map(({ run }) => run)));
  if (result.code === 0) return;
  const failed = failedLine(result.stderr);
  const done = steps.slice(0, failed - 1);
  const undone = await undoBatch(done, commands);
  if (!undone) logger.warn("network_rollback_incomplete", { purpose });
  const args = steps[failed - 1]?.run.split(" ") ?? ["-batch", "-"];
  const invocation: Invocation = { program: "ip", args, purpose };
  throw commandError(invocation, result);
}

/** Takes steps back, last first, going on where a line fails; returns whether none did. */
async function undoBatch(steps: readonly Step[], commands: Commands): Promise<boolean> {
  if (steps.length === 0) return true;
  const lines = linesOf(steps.map(({ undo }) => undo).toReversed());
  return (await commands.run("ip", ["-force", "-batch", "-"], lines)).code === 0;
}

/** The number of the line at which `ip -batch` stopped, by its last words; 1 when it does not say. */
function failedLine(stderr: string): number {
  return Number(/^Command failed -:(\d+)$/m.exec(stderr)?.[1] ?? 1);
}

function linesOf(lines: readonly string[]): string {
  return lines.map((line) => `${line}\n`).join("");
}
