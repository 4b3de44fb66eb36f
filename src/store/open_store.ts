/** Opens the controller's database, whichever it is, and brings its schema up to date. */

import type { Logger } from "../base/log.ts";
import type { Store } from "../control/store.ts";
import { assertSchema, migrate } from "./sql/migrate.ts";
import { openDatabase, type StoreConfig } from "./sql/open_database.ts";
import { SqlStore } from "./sql/sql_store.ts";

/** What a store needs. */
export interface StoreOptions {
  readonly logger: Logger;
  /** Milliseconds since the epoch; default `Date.now`. */
  readonly now?: () => number;
  /** Only reads, also what another process writes at the time; nothing is made or brought up to date. */
  readonly readOnly?: boolean;
  /** Milliseconds to wait for a server that cannot be reached, as one that starts at the same time; default 0. */
  readonly patience?: number;
}

/** Opens the store; throws `GinnelError` when the database cannot be used. */
export async function openStore(
  config: StoreConfig,
  { logger, now = Date.now, readOnly = false, patience = 0 }: StoreOptions,
): Promise<Store> {
  const database = await openDatabase(config, { logger, readOnly, patience });
  try {
    if (readOnly) {
      await assertSchema(database);
    } else {
      const applied = await migrate(database, { now });
      if (applied.length > 0) logger.info("schema_migrated", { database: database.kind, versions: applied });
    }
  } catch (error) {
    await database.close();
    throw error;
  }
  return new SqlStore(database, { logger, now });
}
