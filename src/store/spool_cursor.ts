/** How far a spool's facts have been reported, kept over restarts: a name for the spool, and where its reader stands. */

import { errorMessage, GinnelError } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import { readPublicFile, writeSecretFile } from "../identity/secret_file.ts";

/** Lines of a spool, by number, both included. */
export interface SpoolRange {
  readonly first: number;
  readonly last: number;
}

/** What is known over restarts. */
export interface SpoolCursor {
  readonly name: string;
  /** Lines up to this number are done with. */
  readonly acked: number;
  /** Lines that may have been reported. */
  readonly sending?: SpoolRange;
}

/** Writes it: after a crash the file holds this or what it held before. */
export function writeSpoolCursor(path: string, cursor: SpoolCursor): Promise<void> {
  return writeSecretFile(path, JSON.stringify(cursor), { replace: true });
}

/** Reads where an earlier run stood; from the start, under a new name, when that cannot be known. */
export async function readSpoolCursor(path: string, logger: Logger): Promise<SpoolCursor> {
  const fresh = { name: crypto.randomUUID(), acked: 0 };
  try {
    const { name, acked, sending } = JSON.parse(await readPublicFile(path)) as SpoolCursor;
    const isRange = sending === undefined ||
      (isNumber(sending.first) && isNumber(sending.last) && sending.first <= sending.last);
    if (typeof name === "string" && /^[\w-]{1,64}$/.test(name) && isNumber(acked) && isRange) {
      return { name, acked, ...(sending !== undefined && { sending }) };
    }
    logger.error("audit_cursor_damaged", { file: path });
  } catch (error) {
    const isMissing = error instanceof GinnelError && error.code === "ERR_IDENTITY_FILE_MISSING";
    if (!isMissing) logger.error("audit_cursor_damaged", { file: path, detail: errorMessage(error) });
  }
  return fresh;
}

function isNumber(value: unknown): boolean {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}
