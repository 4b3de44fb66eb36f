/**
 * The lines that `check` and `doctor` print: what was looked at, how it is, and what to do about it.
 */

import type { CommandIo } from "./ca.ts";

/** How one thing is: right, not right but working, or in the way. */
export type Verdict = "ok" | "warn" | "fail";

/** One thing looked at. */
export interface Finding {
  readonly verdict: Verdict;
  readonly subject: string;
  readonly text: string;
  /** What to do; given with every `warn` and `fail`. */
  readonly hint?: string;
}

/** Prints findings for a person, in colour on a terminal only, or as one JSON object. */
export function printFindings(
  findings: readonly Finding[],
  options: { readonly io: CommandIo; readonly json: boolean },
): void {
  const { io, json } = options;
  if (json) {
    io.stdout(JSON.stringify({ verdict: worst(findings), findings }, undefined, 2) + "\n");
    return;
  }
  const width = Math.max(...findings.map(({ subject }) => subject.length));
  for (const { verdict, subject, text, hint } of findings) {
    io.stdout(`${paint(verdict, io.isTerminal)}  ${subject.padEnd(width)}  ${text}\n`);
    if (hint !== undefined) io.stdout(`${" ".repeat(width + 8)}-> ${hint}\n`);
  }
}

/** The worst verdict of all. */
export function worst(findings: readonly Finding[]): Verdict {
  const has = (verdict: Verdict) => findings.some((finding) => finding.verdict === verdict);
  return has("fail") ? "fail" : has("warn") ? "warn" : "ok";
}

const COLOURS: Readonly<Record<Verdict, number>> = { ok: 32, warn: 33, fail: 31 };

function paint(verdict: Verdict, isTerminal: boolean): string {
  const word = verdict.padEnd(4);
  return isTerminal ? `\x1b[${COLOURS[verdict]}m${word}\x1b[0m` : word;
}
