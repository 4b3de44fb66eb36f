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
  /** Write nothing, and refuse a file that is not there; default: it is made. */
  readonly readOnly?: boolean;
  /** Milliseconds to wait for a server that cannot be reached; default 0. */
  readonly patience?: number;
}

/** Opens the database; throws `GinnelError` when it cannot be used. */
export function openDatabase(
  config: StoreConfig,
  { logger, readOnly = false, patience = 0 }: OpenDatabaseOptions,
): Promise<Database> {
  return config.kind === "sqlite"
    ? openSqlite(config.path, { readOnly })
    : openPostgres(config.url, { logger, readOnly, patience });
}
