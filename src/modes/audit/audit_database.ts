/** The audit log in the database of the controller that a config file describes, whether that controller runs or not. */

import { SILENT_LOGGER } from "../../base/log.ts";
import { ConfigError } from "../../config/errors.ts";
import { loadConfig } from "../../config/parse_config.ts";
import { openStore } from "../../store/open_store.ts";
import { databaseOf } from "../controller/database.ts";
import type { AuditReader } from "./audit_reader.ts";

/** Opens it; throws `ConfigError` when the config has no controller, and only reads. */
export async function openAuditDatabase(configFile: string): Promise<AuditReader> {
  const config = await loadConfig(configFile);
  const settings = config.mode === "controller"
    ? config
    : config.mode === "relay"
    ? config.controller
    : undefined;
  if (settings === undefined) {
    const message = "expected controller, or a relay with a controller: only these keep an audit log";
    throw new ConfigError("ERR_CONFIG", [{
      file: configFile,
      field: "mode",
      value: `"${config.mode}"`,
      message,
    }]);
  }
  const location = await databaseOf(settings);
  const store = await openStore(location, { logger: SILENT_LOGGER, readOnly: true });
  return {
    place: location.kind === "sqlite" ? location.path : "the database",
    head: async () => {
      const head = await store.auditHead();
      return head.seq > 0 ? head : undefined;
    },
    entries: () => store.readAudit(),
    query: (query) => store.queryAudit(query),
    [Symbol.asyncDispose]: () => store[Symbol.asyncDispose](),
  };
}
