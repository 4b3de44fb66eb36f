/** Where a running node listens for `ginnel status`: a socket in its user's runtime folder, named after its identity. */

import { createHash } from "node:crypto";
import { join } from "node:path";
import type { SpiffeId } from "../../identity/spiffe_id.ts";

/** What the place of the sockets depends on. */
export interface ControlSurroundings {
  readonly isRoot: boolean;
  /** An environment variable. */
  readonly variable: (name: string) => string | undefined;
}

/** This process's surroundings. */
export function processSurroundings(): ControlSurroundings {
  return { isRoot: Deno.uid() === 0, variable: (name) => Deno.env.get(name) || undefined };
}

/** The folders in which sockets may lie, that of nodes started here and now first. */
export function controlFolders({ isRoot, variable }: ControlSurroundings): readonly string[] {
  const runtime = variable("XDG_RUNTIME_DIR");
  const home = variable("HOME");
  const own = [
    // Services of systemd are given theirs by name; one of several, it is the first.
    variable("RUNTIME_DIRECTORY")?.split(":")[0],
    ...(isRoot ? ["/run/ginnel", ...SERVICE_FOLDERS] : [
      runtime === undefined ? undefined : join(runtime, "ginnel"),
      home === undefined ? undefined : join(home, ".local/state/ginnel"),
      "/run/ginnel",
    ]),
  ];
  return [...new Set(own.filter((folder) => folder !== undefined))];
}

/** Of nodes that systemd runs (`ginnel service install`). */
const SERVICE_FOLDERS = ["/run/ginnel/agent", "/run/ginnel/connector"];

/** The file name of an identity's socket: readable, unique, and short, since a socket's path has at most 107 bytes. */
export function controlName({ kind, name, uri }: SpiffeId): string {
  const digest = createHash("sha256").update(uri).digest("hex").slice(0, 8);
  return `${kind}-${name.replaceAll("/", "_").slice(0, 32)}-${digest}.sock`;
}
