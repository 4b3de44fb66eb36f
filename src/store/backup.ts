/** Backup and restore of a network's whole database, from either kind to either, while controllers run or not. */

import { sql, type Transaction } from "kysely";
import { GinnelError } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import { EPOCH_SETTING } from "../core/network/epoch.ts";
import { BackupFile, type BackupItem, BackupWriter } from "./backup_file.ts";
import { BACKUP_TABLES, type BackupTable, BOOKKEEPING_TABLES, SINGLE_ROW_TABLES } from "./backup_tables.ts";
import { type Database, readConsistently } from "./sql/database.ts";
import { migrateWithin, newerSchema } from "./sql/migrate.ts";
import { MIGRATIONS } from "./sql/migrations.ts";
import { openDatabase, type StoreConfig } from "./sql/open_database.ts";
import type { Tables } from "./sql/schema.ts";

/** Rows read or written at once. */
const PAGE = 1_000;

/**
 * How far the network's revision jumps in a restore: nodes hold views of revisions that the backup does not know and would
 * refuse older ones. More changes than these are not made between a backup and its restore.
 */
const REVISION_JUMP = 1_000_000;

/** What backup and restore need. */
export interface BackupOptions {
  readonly logger: Logger;
  readonly now: () => number;
}

/** What was backed up or restored. */
export interface BackupSummary {
  readonly revision: number;
  readonly rows: number;
  /** ISO 8601. */
  readonly createdAt: string;
}

type Value = string | number | boolean | null;

/** Writes all that the database holds at one moment into a file, mode 0600. Nobody has to wait meanwhile. */
export async function writeBackup(
  config: StoreConfig,
  path: string,
  { logger, now }: BackupOptions,
): Promise<BackupSummary> {
  const database = await openDatabase(config, { logger, readOnly: true });
  try {
    await using writer = await BackupWriter.open(path);
    const summary = await readConsistently(database, async (tx) => {
      const schema = await readSchema(tx);
      const { revision } = await tx.selectFrom("network_state").select("revision").executeTakeFirstOrThrow();
      const { seq, hash } = await tx.selectFrom("audit_head").selectAll().executeTakeFirstOrThrow();
      const createdAt = new Date(now()).toISOString();
      await writer.write({
        ...{ format: "ginnel-backup", version: 1, schema, revision, createdAt },
        ...{ auditSeq: seq, auditHash: hash },
      });
      let rows = 0;
      for (const table of BACKUP_TABLES.filter(({ since }) => since <= schema)) {
        for await (const item of readTable(tx, table)) {
          if ("row" in item) rows++;
          await writer.write(item);
        }
      }
      return { revision, rows, createdAt };
    });
    await writer.finish();
    return summary;
  } finally {
    await database.close();
  }
}

/** Puts a backup into a database, whole or not at all. One that holds a network is refused unless `force` is given. */
export async function restoreBackup(
  config: StoreConfig,
  path: string,
  { logger, now, force = false }: BackupOptions & { readonly force?: boolean },
): Promise<BackupSummary> {
  const file = await BackupFile.open(path);
  const { schema, createdAt } = file.header;
  const latest = MIGRATIONS.at(-1)!.version;
  if (!(schema <= latest)) throw newerSchema(path, schema);
  const database = await openDatabase(config, { logger });
  try {
    return await database.writer.transaction().execute(async (tx) => {
      const { kind } = database;
      // Whatever is there is brought up to date first, so that it is known what to look at.
      await migrateWithin(tx, { kind, now });
      if (!force && await holdsNetwork(tx)) throw notEmpty();
      const { revision: before } = await tx.selectFrom("network_state").select("revision")
        .executeTakeFirstOrThrow();
      await dropAll(database, tx);
      await migrateWithin(tx, {
        kind,
        now,
        migrations: MIGRATIONS.filter(({ version }) => version <= schema),
      });
      for (const table of SINGLE_ROW_TABLES) await tx.deleteFrom(table).execute();
      const rows = await load(tx, file);
      await migrateWithin(tx, { kind, now });
      const revision = Math.max(before, file.header.revision) + REVISION_JUMP;
      await tx.updateTable("network_state").set({ revision, kept_from: revision }).execute();
      await beginEpoch(tx);
      return { revision, rows, createdAt };
    });
  } finally {
    await database.close();
  }
}

async function* readTable(tx: Transaction<Tables>, table: BackupTable): AsyncGenerator<BackupItem> {
  const keys = table.key.map((name) => sql.ref(name));
  let columns: string[] | undefined;
  let after: Value[] | undefined;
  for (;;) {
    const condition = after === undefined
      ? sql``
      : sql`WHERE (${sql.join(keys)}) > (${sql.join(after.map((value) => sql`${value}`))})`;
    const { rows } = await sql<Record<string, Value>>`
      SELECT * FROM ${sql.table(table.name)} ${condition} ORDER BY ${sql.join(keys)} LIMIT ${sql.lit(PAGE)}`
      .execute(tx);
    const [first] = rows;
    if (columns === undefined && first !== undefined) {
      columns = Object.keys(first).filter((name) => table.omitted?.includes(name) !== true);
      yield { table: table.name, columns };
    }
    for (const row of rows) {
      yield {
        row: columns!.map((name) =>
          table.booleans?.includes(name) === true ? Boolean(row[name]) : row[name] ?? null
        ),
      };
    }
    const last = rows.at(-1);
    if (last === undefined || rows.length < PAGE) return;
    after = table.key.map((name) => last[name] ?? null);
  }
}

async function load(tx: Transaction<Tables>, file: BackupFile): Promise<number> {
  let count = 0;
  let table: { readonly name: string; readonly columns: readonly string[] } | undefined;
  let rows: (readonly Value[])[] = [];
  const flush = async () => {
    if (table !== undefined && rows.length > 0) await insert(tx, { ...table, rows });
    count += rows.length;
    rows = [];
  };
  for await (const item of file.items()) {
    if ("table" in item) {
      await flush();
      const { name } = BACKUP_TABLES.find(({ name }) => name === item.table) ?? unknownTable(item.table);
      table = { name, columns: item.columns };
    } else {
      rows.push(item.row);
      if (rows.length >= PAGE) await flush();
    }
  }
  await flush();
  return count;
}

async function insert(
  tx: Transaction<Tables>,
  { name, columns, rows }: {
    readonly name: string;
    readonly columns: readonly string[];
    readonly rows: readonly (readonly Value[])[];
  },
): Promise<void> {
  const values = rows.map((row) => sql`(${sql.join(row.map((value) => sql`${value}`))})`);
  await sql`
    INSERT INTO ${sql.table(name)} (${sql.join(columns.map((column) => sql.ref(column)))})
    VALUES ${sql.join(values)}`.execute(tx);
}

async function readSchema(tx: Transaction<Tables>): Promise<number> {
  const { version } = await tx.selectFrom("schema_migrations").select((eb) =>
    eb.fn.max("version").as("version")
  )
    .executeTakeFirstOrThrow();
  const latest = MIGRATIONS.at(-1)!.version;
  if (version > latest) throw newerSchema("this database", version);
  return version;
}

async function holdsNetwork(tx: Transaction<Tables>): Promise<boolean> {
  for (const { name } of BACKUP_TABLES) {
    if (BOOKKEEPING_TABLES.has(name)) continue;
    const { rows } = await sql`SELECT 1 FROM ${sql.table(name)} LIMIT 1`.execute(tx);
    if (rows.length > 0) return true;
  }
  return false;
}

async function dropAll(database: Database, tx: Transaction<Tables>): Promise<void> {
  await sql`DROP VIEW connectors`.execute(tx);
  for (const { name } of [...BACKUP_TABLES].reverse()) await sql`DROP TABLE ${sql.table(name)}`.execute(tx);
  await sql`DROP TABLE schema_migrations`.execute(tx);
  if (database.kind === "postgres") await sql`DROP FUNCTION audit_append_only()`.execute(tx);
}

/** Relays that knew what the backup does not are told everything anew. */
async function beginEpoch(tx: Transaction<Tables>): Promise<void> {
  const value = crypto.randomUUID();
  await tx.insertInto("settings").values({ key: EPOCH_SETTING, value })
    .onConflict((conflict) => conflict.column("key").doUpdateSet({ value })).execute();
}

function notEmpty(): GinnelError {
  return new GinnelError("ERR_DATABASE_NOT_EMPTY", "Cannot restore into a database that holds a network", {
    hint: "Name an empty one, or add --force to replace what it holds",
  });
}

function unknownTable(name: string): never {
  throw new GinnelError("ERR_BACKUP_DAMAGED", `Cannot restore a table called ${JSON.stringify(name)}`);
}
