/** Where a page of a list ended, as text that its reader hands back unread. */

import { GinnelError } from "../../base/errors.ts";

/** Longest cursor, in characters: a name and an id, encoded. */
const MAX_CURSOR = 8_192;

/** Writes the keys of a page's last row. */
export function toCursor(keys: readonly (string | number)[]): string {
  return new TextEncoder().encode(JSON.stringify(keys)).toBase64({
    alphabet: "base64url",
    omitPadding: true,
  });
}

/** Reads keys of the types of `shape`; throws `GinnelError` with `ERR_CURSOR` for anything else. */
export function fromCursor<T extends readonly (string | number)[]>(cursor: string, shape: T): T {
  const keys = cursor.length > MAX_CURSOR ? undefined : decode(cursor);
  const isRight = Array.isArray(keys) && keys.length === shape.length &&
    shape.every((sample, i) => typeof keys[i] === typeof sample);
  if (isRight) return keys as unknown as T;
  throw new GinnelError("ERR_CURSOR", "Cannot continue a list from this cursor", {
    hint: "Pass the cursor of the page before, unchanged, or none",
  });
}

function decode(cursor: string): unknown {
  try {
    return JSON.parse(new TextDecoder().decode(Uint8Array.fromBase64(cursor, { alphabet: "base64url" })));
  } catch {
    return undefined;
  }
}
