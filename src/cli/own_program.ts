/** How this program was started: from source, as a compiled file, or as a packed one that became a runtime. */

import { fileURLToPath } from "node:url";

/** The head of a packed file leaves its own path there (src/cli/selfextract/stub.c). */
const PACKED_PROGRAM = "GINNEL_PROGRAM";

/** The path of the one file that this program is; undefined where it runs from source. */
export function ownFile(): string | undefined {
  return Deno.build.standalone ? Deno.execPath() : Deno.env.get(PACKED_PROGRAM) || undefined;
}

/** The words that start this program again. */
export function ownCommand(): string[] {
  const file = ownFile();
  if (file !== undefined) return [file];
  return [Deno.execPath(), "run", "--quiet", "--allow-all", fileURLToPath(Deno.mainModule)];
}
