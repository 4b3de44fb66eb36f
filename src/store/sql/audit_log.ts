/** The audit log's table: appends in order under the lock of its head, each entry chained to the one before. */

import type { Transaction } from "kysely";
import { chainHash } from "../../core/audit/chain.ts";
import type { AuditEntry, AuditFact, AuditQuery } from "../../core/network/audit_entry.ts";
import type { Database, DatabaseKind, Queries } from "./database.ts";
import { toText, toTime } from "./json_text.ts";
import type { Tables } from "./schema.ts";

/** Rows of one insert and of one batch when reading. */
const BATCH = 1_000;

/** Most entries a query returns. */
const MAX_LIMIT = 10_000;

/** Most facts that one transaction writes: its lock is held a few tens of milliseconds. */
const MAX_GROUP = 2_000;

/** Appends facts within a transaction. */
export async function appendFacts(
  tx: Transaction<Tables>,
  { facts, database }: { readonly facts: readonly AuditFact[]; readonly database: DatabaseKind },
): Promise<void> {
  const query = tx.selectFrom("audit_head").selectAll().where("id", "=", 1);
  let { seq, hash } = await (database === "postgres" ? query.forUpdate() : query).executeTakeFirstOrThrow();
  for (let start = 0; start < facts.length; start += BATCH) {
    const rows = facts.slice(start, start + BATCH).map((fact) => {
      const kept = toKept(fact);
      seq++;
      hash = chainHash(hash, { ...kept, seq });
      return { ...kept, detail: JSON.stringify(kept.detail), seq, hash };
    });
    await tx.insertInto("audit").values(rows).execute();
  }
  await tx.updateTable("audit_head").set({ seq, hash }).where("id", "=", 1).execute();
}

/** Appends and reads outside of transactions; facts that come while the disk is busy are written together. */
export class AuditLog {
  readonly #database: Database;
  #waiting: Waiting[] = [];
  #work: Promise<void> | undefined;

  constructor(database: Database) {
    this.#database = database;
  }

  /** Resolves when the facts are durable. */
  append(facts: readonly AuditFact[]): Promise<void> {
    if (facts.length === 0) return Promise.resolve();
    return new Promise((resolve, reject) => {
      this.#waiting.push({ facts, resolve, reject });
      this.#work ??= this.#workOff().finally(() => this.#work = undefined);
    });
  }

  /** Newest first. */
  async query(query: AuditQuery): Promise<AuditEntry[]> {
    let rows = this.#database.reader.selectFrom("audit").selectAll().orderBy("seq", "desc")
      .limit(Math.min(Math.max(Math.trunc(query.limit), 1), MAX_LIMIT));
    if (query.from !== undefined) rows = rows.where("time", ">=", toTime(query.from));
    if (query.to !== undefined) rows = rows.where("time", "<", toTime(query.to));
    if (query.who !== undefined) rows = rows.where("who", "=", toText(query.who));
    if (query.target !== undefined) rows = rows.where("target", "=", toText(query.target));
    if (query.outcome !== undefined) rows = rows.where("outcome", "=", toText(query.outcome));
    if (query.event !== undefined) rows = rows.where("event", "=", query.event);
    if (query.before !== undefined) rows = rows.where("seq", "<", query.before);
    return (await rows.execute()).map(toEntry);
  }

  /** Number and hash of the last entry as noted when it was written; 0 for an empty log. */
  async head(): Promise<{ readonly seq: number; readonly hash: string }> {
    return await this.#database.reader.selectFrom("audit_head").select(["seq", "hash"]).where("id", "=", 1)
      .executeTakeFirstOrThrow();
  }

  /** All in order; what is appended meanwhile comes too. */
  async *read(from = 1): AsyncGenerator<AuditEntry[]> {
    for (let next = from;;) {
      const batch = await readEntries(this.#database.reader, { from: next, limit: BATCH });
      const last = batch.at(-1);
      if (last === undefined) return;
      yield batch;
      next = last.seq + 1;
    }
  }

  async #workOff(): Promise<void> {
    // One turn later: what is appended in one go is one transaction.
    await Promise.resolve();
    while (this.#waiting.length > 0) {
      const group = this.#takeGroup();
      try {
        await this.#database.writer.transaction().execute((tx) =>
          appendFacts(tx, { facts: group.flatMap(({ facts }) => facts), database: this.#database.kind })
        );
        for (const { resolve } of group) resolve();
      } catch (error) {
        for (const { reject } of group) reject(error);
      }
    }
  }

  #takeGroup(): Waiting[] {
    let size = 0;
    const end = this.#waiting.findIndex(({ facts }, i) => (size += facts.length) > MAX_GROUP && i > 0);
    return this.#waiting.splice(0, end < 0 ? this.#waiting.length : end);
  }
}

/** Entries from a number on, in order. */
async function readEntries(
  db: Queries,
  { from, limit }: { readonly from: number; readonly limit: number },
): Promise<AuditEntry[]> {
  const rows = await db.selectFrom("audit").selectAll().where("seq", ">=", from).orderBy("seq").limit(limit)
    .execute();
  return rows.map(toEntry);
}

/** A fact as the database will give it back: the hash covers that. */
function toKept(fact: AuditFact): AuditFact {
  return {
    time: toTime(fact.time),
    event: fact.event,
    who: toText(fact.who),
    target: toText(fact.target),
    outcome: toText(fact.outcome),
    detail: JSON.parse(JSON.stringify(fact.detail)) as AuditFact["detail"],
    source: toText(fact.source),
  };
}

function toEntry(row: Tables["audit"]): AuditEntry {
  const { seq, time, event, who, target, outcome, detail, source, hash } = row;
  return {
    time,
    event: event as AuditEntry["event"],
    who,
    target,
    outcome,
    detail: JSON.parse(detail) as AuditEntry["detail"],
    source,
    seq,
    hash,
  };
}

/** Somebody whose facts are to be written. */
interface Waiting {
  readonly facts: readonly AuditFact[];
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}
