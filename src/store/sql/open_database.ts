/** Opens either database, whatever its schema is. */

import type { Logger } from "../../base/log.ts";
import type { Database } from "./database.ts";
import { openPostgres } from "./postgres_database.ts";
import { openSqlite } from "./sqlite_database.ts";

/** Which database. */
export type StoreConfig =
  | { readonly kind: "sqlite"; readonly path: string }
  /** `postgres://user:password@host:port/database`. */
  | { readonly kind: "postgres"; readonly url: string };

/** How to open it. */
export interface OpenDatabaseOptions {
  readonly logger: Logger;
  /** SQLite: refuse a file that is not there; default: it is made. */
  readonly mustExist?: boolean;
}

/** Opens the database; throws `GinnelError` when it cannot be used. */
export function openDatabase(
  config: StoreConfig,
  { logger, mustExist = false }: OpenDatabaseOptions,
): Promise<Database> {
  return config.kind === "sqlite"
    ? openSqlite(config.path, { mustExist })
    : openPostgres(config.url, { logger });
}
