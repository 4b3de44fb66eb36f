/** Backup and restore of the database of the controller that a config file describes. */

import { SILENT_LOGGER } from "../../base/log.ts";
import { ConfigError } from "../../config/errors.ts";
import { loadConfig } from "../../config/parse_config.ts";
import { type BackupSummary, restoreBackup, writeBackup } from "../../store/backup.ts";
import { type DatabaseLocation, databaseOf } from "../controller/database.ts";

/** What was done, and where. */
export interface BackupResult extends BackupSummary {
  /** The database, without what is secret in its URL. */
  readonly database: string;
  /** The folder with the CA and the authority, which no backup holds. */
  readonly data: string;
}

/** Writes all that the controller's database holds into a file, mode 0600. The controller may run. */
export async function backupNetwork(configFile: string, file: string): Promise<BackupResult> {
  const { location, data } = await locate(configFile);
  const summary = await writeBackup(location, file, { logger: SILENT_LOGGER, now: Date.now });
  return { ...summary, database: nameOf(location), data };
}

/** Puts a backup into the controller's database. `force`: also in place of a network that it holds. */
export async function restoreNetwork(
  configFile: string,
  file: string,
  { force }: { readonly force: boolean },
): Promise<BackupResult> {
  const { location, data } = await locate(configFile);
  const summary = await restoreBackup(location, file, { logger: SILENT_LOGGER, now: Date.now, force });
  return { ...summary, database: nameOf(location), data };
}

async function locate(
  configFile: string,
): Promise<{ readonly location: DatabaseLocation; readonly data: string }> {
  const config = await loadConfig(configFile);
  const settings = config.mode === "controller"
    ? config
    : config.mode === "relay"
    ? config.controller
    : undefined;
  if (settings !== undefined) return { location: await databaseOf(settings), data: settings.data };
  throw new ConfigError("ERR_CONFIG", [{
    file: configFile,
    field: "mode",
    value: `"${config.mode}"`,
    message: "expected controller, or a relay with a controller: only these have a database",
  }]);
}

function nameOf(location: DatabaseLocation): string {
  if (location.kind === "sqlite") return location.path;
  const { host, pathname } = new URL(location.url);
  return `PostgreSQL ${host}${pathname}`;
}
