/**
 * The folder of an installed node: a copy of its config and of every file that names. systemd gives it, and all that is
 * in it, to the node's user at the first start.
 */

import { basename, dirname, join, resolve } from "node:path";
import { GinnelError } from "../../base/errors.ts";
import type { Config } from "../../config/parse_config.ts";
import { resolveAgentPaths } from "../../config/schema/agent.ts";
import { resolveConnectorPaths } from "../../config/schema/connector.ts";
import { resolveControllerPaths } from "../../config/schema/controller.ts";
import { resolveRelayPaths } from "../../config/schema/relay.ts";

/** A config file, read. */
export interface ConfigFile {
  readonly path: string;
  readonly config: Config;
}

/** Fills a folder that is there and empty. */
export async function fillHome(home: string, { path, config }: ConfigFile): Promise<void> {
  // The files of an SVID stay where others keep them fresh.
  const { identity } = config as { readonly identity?: unknown };
  const svid = new Set<string>(
    typeof identity === "object" && identity !== null ? Object.values(identity) : [],
  );
  const names = new Map([...svid].map((named) => [named, named]));
  for (const named of pathsOf(config)) {
    if (svid.has(named)) continue;
    const name = freeName(basename(named), new Set(names.values()));
    names.set(named, name);
    await copy(named, join(home, name));
  }
  const folder = dirname(resolve(path));
  const moved = renamed(
    JSON.parse(await Deno.readTextFile(path)),
    (text) => names.get(resolve(folder, text)),
  );
  await Deno.writeTextFile(join(home, "config.json"), `${JSON.stringify(moved, undefined, 2)}\n`, {
    mode: 0o600,
  });
}

/** Every path that a config names, absolute. */
function pathsOf(config: Config): readonly string[] {
  const found = new Set<string>();
  const note = (path: string) => {
    found.add(path);
    return path;
  };
  switch (config.mode) {
    case "agent":
      resolveAgentPaths(config, note);
      break;
    case "connector":
      resolveConnectorPaths(config, note);
      break;
    case "relay":
      resolveRelayPaths(config, note);
      break;
    case "controller":
      resolveControllerPaths(config, note);
      break;
  }
  return [...found];
}

/** A name that neither the config nor an earlier file has. */
function freeName(wanted: string, taken: ReadonlySet<string>): string {
  const isTaken = (name: string) => taken.has(name) || name === "config.json";
  if (!isTaken(wanted)) return wanted;
  let count = 2;
  while (isTaken(`${count}-${wanted}`)) count++;
  return `${count}-${wanted}`;
}

/** Copies a file, or a folder of files; what is not there yet, the node will make. */
async function copy(from: string, to: string): Promise<void> {
  let info: Deno.FileInfo;
  try {
    info = await Deno.stat(from);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return;
    throw error;
  }
  if (info.isDirectory) {
    await Deno.mkdir(to, { mode: 0o700 });
    for await (const { name } of Deno.readDir(from)) await copy(join(from, name), join(to, name));
    return;
  }
  if (!info.isFile) {
    throw new GinnelError("ERR_SERVICE_FILE", `Cannot copy ${from}: it is no file`, {
      hint: "Stop the node first",
    });
  }
  await Deno.copyFile(from, to);
  // Nobody but the node's own user gets to see any of it.
  await Deno.chmod(to, 0o600);
}

/** A value with some of its texts replaced, at any depth. */
function renamed(value: unknown, rename: (text: string) => string | undefined): unknown {
  if (typeof value === "string") return rename(value) ?? value;
  if (Array.isArray(value)) return value.map((item) => renamed(item, rename));
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, renamed(item, rename)]));
}
