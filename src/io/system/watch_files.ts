/**
 * Tells when any of some files changes, by whatever way an editor or a config manager replaces it.
 */

import { dirname } from "node:path";

/** Milliseconds of quiet before a change is told, so that a half-written file is not read. */
const SETTLE_MS = 50;

/** Calls `onChange` after changes in the folders of `paths`; returns the way to stop. */
export function watchFiles(paths: readonly string[], onChange: () => void): () => void {
  const folders = [...new Set(paths.map((path) => dirname(path)))];
  const watcher = Deno.watchFs(folders, { recursive: false });
  let timer: ReturnType<typeof setTimeout> | undefined;
  let closed = false;
  (async () => {
    for await (const event of watcher) {
      if (event.kind === "access") continue;
      clearTimeout(timer);
      timer = setTimeout(onChange, SETTLE_MS);
    }
  })().catch((error) => {
    // Closing the watcher ends its iteration; anything else is a fault of the system.
    if (!closed) throw error;
  });
  return () => {
    if (closed) return;
    closed = true;
    clearTimeout(timer);
    watcher.close();
  };
}
