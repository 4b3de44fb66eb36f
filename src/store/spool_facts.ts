/** The lines of a spool: one audit fact as JSON each. A line that says nothing is skipped by whoever reads it. */

import { AUDIT_EVENTS, type AuditFact } from "../core/network/audit_entry.ts";

/** Characters of the longest fact that is kept whole. */
const MAX_LINE = 64 * 1024;

/** Characters kept of who and what in a fact that is too long. */
const MAX_TEXT = 2_048;

/** Writes a fact as one line, newline included; of one that is too long only the basis. */
export function formatFact(fact: AuditFact): string {
  const line = JSON.stringify(fact);
  if (line.length <= MAX_LINE) return `${line}\n`;
  const cut = {
    ...fact,
    who: fact.who.slice(0, MAX_TEXT),
    target: fact.target.slice(0, MAX_TEXT),
    detail: { cut: true },
  };
  return `${JSON.stringify(cut)}\n`;
}

/** Reads a line; undefined when it holds no fact. */
export function parseFact(line: string): AuditFact | undefined {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return undefined;
  }
  if (typeof value !== "object" || value === null) return undefined;
  const { time, event, who, target, outcome, detail, source } = value as Partial<AuditFact>;
  const isText = [who, target, outcome, source].every((text) => typeof text === "string");
  const isKnown = AUDIT_EVENTS.some((known) => known === event);
  const isObject = typeof detail === "object" && detail !== null && !Array.isArray(detail);
  return isText && isKnown && isObject && Number.isSafeInteger(time) ? value as AuditFact : undefined;
}
