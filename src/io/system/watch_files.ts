/**
 * Tells when any of some files changes, by whatever way an editor or a config manager replaces it.
 */

import { dirname } from "node:path";

/** Milliseconds between an event and the look at the files: an editor's several steps become one change. */
const SETTLE_MS = 50;

/** Calls `onChange` after any of `paths` changed; returns the way to stop. */
export function watchFiles(paths: readonly string[], onChange: () => void): () => void {
  // Folders are watched, since a replaced file is a new one; what else happens in them is told apart by `stat`.
  const folders = [...new Set(paths.map((path) => dirname(path)))];
  const watcher = Deno.watchFs(folders, { recursive: false });
  let timer: ReturnType<typeof setTimeout> | undefined;
  let closed = false;
  let seen = fingerprint(paths);
  const settle = () => {
    timer = undefined;
    const now = fingerprint(paths);
    if (now === seen) return;
    seen = now;
    onChange();
  };
  (async () => {
    for await (const event of watcher) {
      if (event.kind === "access") continue;
      // Not put off by further events: a busy log in the same folder must not hold back a policy.
      timer ??= setTimeout(settle, SETTLE_MS);
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

function fingerprint(paths: readonly string[]): string {
  return paths.map((path) => {
    try {
      const { ino, size, mtime } = Deno.statSync(path);
      return `${ino} ${size} ${mtime?.getTime()}`;
    } catch (error) {
      return String(error);
    }
  }).join("\n");
}
