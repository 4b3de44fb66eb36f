/**
 * Brings a database to this program's schema: all steps in one transaction. Of several controllers that start at once one
 * does it and the others wait.
 */

import { sql, type Transaction } from "kysely";
import { GinnelError } from "../../base/errors.ts";
import type { Database, DatabaseKind, Queries } from "./database.ts";
import { type Migration, MIGRATIONS } from "./migrations.ts";
import type { Tables } from "./schema.ts";

/** PostgreSQL's name for our lock: any number that nobody else uses. */
const LOCK = 0x67_69_6e_6e;

/** How to migrate. */
export interface MigrateOptions {
  readonly now: () => number;
  /** Default: all. */
  readonly migrations?: readonly Migration[];
}

/** Applies what is missing; returns the versions applied. Refuses a schema of a newer program. */
export function migrate(database: Database, options: MigrateOptions): Promise<number[]> {
  return database.writer.transaction().execute((tx) =>
    migrateWithin(tx, { ...options, kind: database.kind })
  );
}

/** Does so as part of a transaction. */
export async function migrateWithin(
  tx: Transaction<Tables>,
  { kind, now, migrations = MIGRATIONS }: MigrateOptions & { readonly kind: DatabaseKind },
): Promise<number[]> {
  if (kind === "postgres") await sql`SELECT pg_advisory_xact_lock(${LOCK}::bigint)`.execute(tx);
  const applied = await readVersions(kind, tx);
  const known = new Set(migrations.map(({ version }) => version));
  const newer = applied.find((version) => !known.has(version));
  if (newer !== undefined) throw newerSchema("this database", newer);
  const missing = migrations.filter(({ version }) => !applied.includes(version));
  for (const { version, name, statements } of missing) {
    for (const statement of statements(kind)) await sql.raw(statement).execute(tx);
    await tx.insertInto("schema_migrations").values({ version, name, applied_at: now() }).execute();
  }
  return missing.map(({ version }) => version);
}

/** Refuses a schema that is not this program's, and writes nothing. */
export async function assertSchema(database: Database): Promise<void> {
  let applied: number[];
  try {
    applied = await listVersions(database.reader);
  } catch (cause) {
    await database.reader.selectNoFrom((eb) => eb.lit(1).as("one")).execute();
    throw olderSchema(cause);
  }
  const newer = applied.find((version) => !MIGRATIONS.some((known) => known.version === version));
  if (newer !== undefined) throw newerSchema("this database", newer);
  if (applied.length < MIGRATIONS.length) throw olderSchema();
}

/** Something was made by a newer program. */
export function newerSchema(what: string, version: number): GinnelError {
  return new GinnelError("ERR_SCHEMA_NEWER", `Cannot use ${what}: its schema has version ${version}`, {
    hint: "Run the release that made it, or a newer one",
  });
}

async function readVersions(kind: DatabaseKind, tx: Transaction<Tables>): Promise<number[]> {
  const time = kind === "sqlite" ? "INTEGER" : "TIMESTAMPTZ";
  await sql.raw(
    `CREATE TABLE IF NOT EXISTS schema_migrations (
      version INTEGER PRIMARY KEY, name TEXT NOT NULL, applied_at ${time} NOT NULL
    )`,
  ).execute(tx);
  return await listVersions(tx);
}

async function listVersions(queries: Queries): Promise<number[]> {
  const rows = await queries.selectFrom("schema_migrations").select("version").orderBy("version").execute();
  return rows.map(({ version }) => version);
}

function olderSchema(cause?: unknown): GinnelError {
  return new GinnelError("ERR_SCHEMA_OLDER", "Cannot read this database: its schema is not up to date", {
    cause,
    hint: "Start its controller once: that brings it up to date",
  });
}
