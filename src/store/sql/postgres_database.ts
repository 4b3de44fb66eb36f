/** PostgreSQL. */
import { GinnelError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { Database } from "./database.ts";

/** Connects. */
export function openPostgres(_url: string, _options: { readonly logger: Logger }): Promise<Database> {
  return Promise.reject(new GinnelError("ERR_DATABASE_UNUSABLE", "PostgreSQL is not there yet"));
}
