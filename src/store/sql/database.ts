/** The two databases behind one query builder: what the rest of the folder needs to know of which one it is. */

import type { Kysely, Transaction } from "kysely";
import type { Tables } from "./schema.ts";

/** Which database. */
export type DatabaseKind = "sqlite" | "postgres";

/** Something that runs queries: a connection pool or a transaction. */
export type Queries = Kysely<Tables>;

/** Who listens to a database. */
export interface DatabaseHearer {
  /** Another connection may have committed a change. */
  onChange(): void;
  /** Somebody sent this. */
  onMessage(text: string): void;
}

/** An open database. */
export interface Database {
  readonly kind: DatabaseKind;
  /** Sees what is committed, nothing else. */
  readonly reader: Queries;
  /** For writes; on SQLite there is one, so writes come one after another. */
  readonly writer: Queries;
  /** Listens to what others do; returns the way to stop. */
  listen(hearer: DatabaseHearer): () => void;
  /** Sends a message to all who listen, the sender too: in a transaction, when that commits. */
  send(text: string, queries: Queries): Promise<void>;
  close(): Promise<void>;
}

/** Runs `work` in a transaction that sees one state of the database throughout. */
export function readConsistently<T>(
  database: Database,
  work: (tx: Transaction<Tables>) => Promise<T>,
): Promise<T> {
  const transaction = database.reader.transaction();
  return (database.kind === "postgres"
    ? transaction.setIsolationLevel("repeatable read").setAccessMode("read only")
    : transaction).execute(work);
}

/** Name of the channel on which PostgreSQL tells of changes. */
export const CHANGE_CHANNEL = "ginnel_changes";

/** Name of the channel on which PostgreSQL passes messages on. */
export const MESSAGE_CHANNEL = "ginnel_notices";

/** Whether an error says that a row with this key is there already. */
export function isUniqueViolation(error: unknown): boolean {
  const { code, errcode } = error as { readonly code?: unknown; readonly errcode?: unknown };
  // SQLite's extended codes for a primary key and for other unique keys.
  return code === "23505" || errcode === 1555 || errcode === 2067;
}

/** Whether PostgreSQL gave up a transaction that is to be tried again: deadlock, or serialisation failure. */
export function isGivenUp(error: unknown): boolean {
  const { code } = error as { readonly code?: unknown };
  return code === "40P01" || code === "40001";
}
