/** The config of a node that was started without naming one. */

import { join } from "node:path";
import { type Config, parseConfig } from "../config/parse_config.ts";
import { loadIdentity } from "../identity/identity_file.ts";
import { UsageError } from "./command.ts";

/** The file names at which a config is looked for, the first one first. */
export function configPlaces(variable: (name: string) => string | undefined): readonly string[] {
  const home = variable("HOME");
  const own = variable("XDG_CONFIG_HOME") ?? (home === undefined ? undefined : join(home, ".config"));
  return [
    "/etc/ginnel/config.json",
    ...(own === undefined ? [] : [join(own, "ginnel/config.json")]),
    "./ginnel.json",
  ];
}

/** The first config there is; undefined when there is none. */
export async function findConfig(
  places: readonly string[] = environmentPlaces(),
): Promise<string | undefined> {
  for (const place of places) {
    try {
      await Deno.stat(place);
      return place;
    } catch (error) {
      // One that may not be read is not meant for us.
      const isAbsent = error instanceof Deno.errors.NotFound || error instanceof Deno.errors.PermissionDenied;
      if (!isAbsent) throw error;
    }
  }
  return undefined;
}

/** As {@linkcode findConfig}, but there must be one. */
export async function requireConfig(places: readonly string[] = environmentPlaces()): Promise<string> {
  const found = await findConfig(places);
  if (found !== undefined) return found;
  throw new UsageError(`Give --config FILE or --identity FILE: there is none of ${places.join(", ")}`);
}

/** The config of an agent with an identity and nothing else: all defaults, so that services appear by name. */
export async function configOfIdentity(path: string): Promise<Config> {
  const { id } = await loadIdentity(path, { evenExpired: true });
  if (id.kind !== "agent" && id.kind !== "user") {
    throw new UsageError(
      `${path} is the identity of a ${id.kind}, not of an agent or user: write a config with "mode": "${id.kind}"`,
    );
  }
  return parseConfig(JSON.stringify({ mode: "agent", identity: path }), { file: "--identity" });
}

function environmentPlaces(): readonly string[] {
  return configPlaces((name) => Deno.env.get(name) || undefined);
}
