/**
 * Files that hold keys: created for their owner only, complete or not at all, and refused when others can read them.
 */

/** Writes a new file, mode 0600; an existing one is kept unless `replace` is set. */
export function writeSecretFile(
  _path: string,
  _text: string,
  _options: { readonly replace?: boolean } = {},
): Promise<void> {
  return Promise.reject(new Error("Not written yet"));
}

/** Reads a file that only its owner may read. */
export function readSecretFile(_path: string): Promise<string> {
  return Promise.reject(new Error("Not written yet"));
}
