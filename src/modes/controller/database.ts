/** Which database a controller's settings mean. */

import { join } from "node:path";
import type { ControllerSettings } from "../../config/schema/controller.ts";
import { readSecretFile } from "../../identity/secret_file.ts";

/** A database to open. */
export type DatabaseLocation =
  | { readonly kind: "sqlite"; readonly path: string }
  /** The URL holds a password. */
  | { readonly kind: "postgres"; readonly url: string };

/** Reads where the database is; rejects when the file with its URL cannot be read or others can read it. */
export async function databaseOf(
  { database, data }: Pick<ControllerSettings, "database" | "data">,
): Promise<DatabaseLocation> {
  if (database.kind === "sqlite") return { kind: "sqlite", path: database.path ?? join(data, "ginnel.db") };
  return { kind: "postgres", url: (await readSecretFile(database.urlFile!)).trim() };
}
