/**
 * An SQLite file: one connection writes, another reads, so that readers see what is committed while a transaction runs.
 */

import { dirname } from "node:path";
import { Kysely, sql } from "kysely";
import { errorMessage, GinnelError } from "../../base/errors.ts";
import type { Database, DatabaseHearer } from "./database.ts";
import type { Tables } from "./schema.ts";
import { SqliteDialect } from "./sqlite_dialect.ts";

/** Milliseconds between looks for commits of other processes. */
const LOOK_INTERVAL = 500;

/** Who listens to which file, of all stores in this process: SQLite itself passes no messages on. */
const HEARERS = new Set<{ readonly file: string; readonly hearer: DatabaseHearer }>();

/** Opens the file, or makes it with mode 0600; `readOnly`: it is not made, and nothing is written to it. */
export async function openSqlite(
  path: string,
  { readOnly = false }: { readonly readOnly?: boolean } = {},
): Promise<Database> {
  if (path === "" || path.startsWith(":memory:")) {
    throw new GinnelError("ERR_DATABASE_PATH", "Cannot keep a network in memory", {
      hint: "Name a file for the database",
    });
  }
  let writer: Kysely<Tables> | undefined;
  let reader: Kysely<Tables> | undefined;
  try {
    if (!readOnly) await Deno.mkdir(dirname(path), { recursive: true, mode: 0o700 });
    // SQLite gives the files beside it the mode of the first one.
    (await Deno.open(path, readOnly ? { read: true } : { create: true, write: true, mode: 0o600 })).close();
    writer = new Kysely<Tables>({ dialect: new SqliteDialect({ path, isReader: readOnly, readOnly }) });
    reader = new Kysely<Tables>({ dialect: new SqliteDialect({ path, isReader: true, readOnly }) });
    await sql`SELECT count(*) FROM sqlite_master`.execute(writer);
    await sql`SELECT count(*) FROM sqlite_master`.execute(reader);
  } catch (error) {
    await reader?.destroy().catch(() => undefined);
    await writer?.destroy().catch(() => undefined);
    if (error instanceof Deno.errors.NotFound) {
      throw new GinnelError("ERR_DATABASE_MISSING", `Cannot open ${path}: there is no such file`, {
        cause: error,
        hint: "Check the path; the controller makes the file when it first starts",
      });
    }
    throw new GinnelError("ERR_DATABASE_UNUSABLE", `Cannot open ${path}: ${errorMessage(error)}`, {
      cause: error,
      hint: "Check the path, its permissions and the free space; a damaged file needs `ginnel restore`",
    });
  }
  const { writer: w, reader: r } = { writer, reader };
  const file = await Deno.realPath(path);
  return {
    kind: "sqlite",
    reader: r,
    writer: w,
    listen(hearer) {
      const stop = watchVersion(r, () => hearer.onChange());
      const entry = { file, hearer };
      HEARERS.add(entry);
      return () => {
        stop();
        HEARERS.delete(entry);
      };
    },
    send(text) {
      for (const other of [...HEARERS]) if (other.file === file) other.hearer.onMessage(text);
      return Promise.resolve();
    },
    async close() {
      await r.destroy();
      await w.destroy();
    },
  };
}

/** Looks whether another connection, in whatever process, committed anything. */
function watchVersion(reader: Kysely<Tables>, onChange: () => void): () => void {
  let last: number | undefined;
  const look = async () => {
    const { rows } = await sql<{ data_version: number }>`PRAGMA data_version`.execute(reader);
    const version = rows[0]?.data_version;
    if (last !== undefined && version !== last) onChange();
    last = version;
  };
  // A look that fails says nothing; the next one or the next query does.
  const timer = setInterval(() => look().catch(() => undefined), LOOK_INTERVAL);
  Deno.unrefTimer(timer);
  return () => clearInterval(timer);
}
