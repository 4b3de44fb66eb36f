/**
 * The hash chain of the audit log: each entry's hash covers the entry, its number and the hash before it, so that nothing
 * in the log can be changed, moved or taken out without breaking every hash behind it. What is cut off at the end, or
 * hashed anew to the end, shows only against a head that is kept elsewhere.
 */

import { sha256Hex } from "../../base/sha256.ts";
import type { AuditEntry, AuditFact } from "../network/audit_entry.ts";

/** The hash before the first entry. */
export const GENESIS_HASH = "0".repeat(64);

/** A place in the log that somebody wrote down. */
export interface AuditHead {
  readonly seq: number;
  /** SHA-256, hexadecimal. */
  readonly hash: string;
}

/** Why a log is not as it was written. */
export type ChainFault =
  /** An entry is missing before this one. */
  | "gap"
  /** This entry, or the hash of the one before it, was changed. */
  | "altered"
  /** This entry stands in another's place. */
  | "reordered"
  /** The log ends before a known head. */
  | "truncated"
  /** Everything fits together, but it is not the log that a known head belongs to. */
  | "rewritten";

/** What verification found. */
export type ChainVerdict =
  | { readonly ok: true; readonly entries: number; readonly lastSeq: number; readonly lastHash: string }
  | { readonly ok: false; readonly seq: number; readonly reason: ChainFault };

/** What else verification looks at. */
export interface VerifyChainOptions {
  /** Heads written down earlier, which must lie in the log. */
  readonly heads?: readonly AuditHead[];
  /** Told after each batch how many entries were right so far. */
  readonly onProgress?: (entries: number) => void;
}

/** The hash of an entry that follows one with `previousHash`. */
export function chainHash(previousHash: string, entry: AuditFact & { readonly seq: number }): string {
  return sha256Hex(`ginnel-audit-1\n${previousHash}\n${canonical(entry)}`);
}

/** Checks a whole log, from its first entry, read in order; stops at the first entry that is not right. */
export async function verifyChain(
  batches: AsyncIterable<readonly AuditEntry[]>,
  options: VerifyChainOptions = {},
): Promise<ChainVerdict> {
  const heads = new Map((options.heads ?? []).map(({ seq, hash }) => [seq, hash.toLowerCase()]));
  let lastSeq = 0;
  let lastHash = GENESIS_HASH;
  for await (const batch of batches) {
    for (const entry of batch) {
      if (entry.seq !== lastSeq + 1) {
        return { ok: false, seq: entry.seq, reason: misplaced(batch, lastSeq + 1, entry) };
      }
      if (chainHash(lastHash, entry) !== entry.hash) return { ok: false, seq: entry.seq, reason: "altered" };
      lastSeq = entry.seq;
      lastHash = entry.hash;
      const known = heads.get(lastSeq);
      if (known !== undefined && known !== lastHash) return { ok: false, seq: lastSeq, reason: "rewritten" };
    }
    options.onProgress?.(lastSeq);
  }
  const missing = Math.max(0, ...heads.keys());
  if (missing > lastSeq) return { ok: false, seq: lastSeq + 1, reason: "truncated" };
  return { ok: true, entries: lastSeq, lastSeq, lastHash };
}

/** An entry out of turn: the one due comes later, or was there before; or it is nowhere. */
function misplaced(batch: readonly AuditEntry[], due: number, entry: AuditEntry): ChainFault {
  return entry.seq < due || batch.some(({ seq }) => seq === due) ? "reordered" : "gap";
}

/** One text for one entry, however a database orders the keys of its JSON. */
function canonical(
  { seq, time, event, who, target, outcome, detail, source }: AuditFact & { readonly seq: number },
) {
  return JSON.stringify([seq, time, event, who, target, outcome, detail, source], sortKeys);
}

function sortKeys(_key: string, value: unknown): unknown {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).sort(([a], [b]) => a < b ? -1 : a > b ? 1 : 0));
}
