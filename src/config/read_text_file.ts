/** Reads a text file of bounded size, or says in one line why it cannot be read. */

import { utf8Decode } from "../base/bytes.ts";
import { errorMessage } from "../base/errors.ts";
import { ConfigError, type ConfigErrorCode } from "./errors.ts";

/** Reads UTF-8 text; throws a `ConfigError` of the given code. */
export async function readTextFile(
  path: string,
  options: { readonly code: ConfigErrorCode; readonly maxBytes: number },
): Promise<string> {
  const { code, maxBytes } = options;
  const fail = (message: string, cause?: unknown) =>
    new ConfigError(code, [{ file: path, field: "", message }], { cause });
  try {
    const { isFile, size } = await Deno.stat(path);
    if (!isFile) throw fail("not a file");
    if (size > maxBytes) throw fail(`larger than ${maxBytes} bytes`);
    return utf8Decode(await Deno.readFile(path));
  } catch (error) {
    if (error instanceof ConfigError) throw error;
    if (error instanceof Deno.errors.NotFound) throw fail("no such file", error);
    if (error instanceof Deno.errors.PermissionDenied) throw fail("may not be read by this user", error);
    if (error instanceof TypeError) throw fail("not UTF-8 text", error);
    throw fail(`cannot be read: ${errorMessage(error)}`, error);
  }
}
