/**
 * What killed processes left of theirs at this machine's resolver: until somebody puts it back, no name is answered. An
 * interface's next owner does so by itself; this is for where there is none.
 */

import { errorMessage, GinnelError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import { HostNetwork, type HostNetworkOptions } from "./host_network.ts";
import { isLocked, readJournalPath, readLockPath } from "./journal.ts";
import { readJournalData } from "./journal_data.ts";
import { readMark } from "./resolv_conf.ts";
import { presentStateDirectories } from "./state_directory.ts";

/** Where to look; the defaults are this machine's places. */
export interface LeftoverPlaces {
  /** Folders of journals. */
  readonly directories?: readonly string[];
  readonly resolvConf?: string;
}

/** The resolver as a dead process left it. */
export interface ResolverLeftover {
  /** The interface it was set up for. */
  readonly interface: string;
  /** The folder of its journal, where that is there. */
  readonly directory?: string;
}

/** Finds what dead processes left; changes nothing. */
export async function findResolverLeftovers(places: LeftoverPlaces = {}): Promise<ResolverLeftover[]> {
  const { directories = await presentStateDirectories(), resolvConf = "/etc/resolv.conf" } = places;
  const found = new Map<string, ResolverLeftover>();
  for (const directory of directories) {
    for await (const { name } of Deno.readDir(directory)) {
      const journal = readJournalPath(`${directory}/${name}`);
      if (journal === undefined || await isLocked(journal.lockFile)) continue;
      const data = readJournalData(await readText(`${directory}/${name}`));
      if (data?.resolver === undefined) continue;
      found.set(journal.interface, { interface: journal.interface, directory });
    }
  }
  const owner = readMark(await readText(resolvConf))?.owner ?? "";
  const name = readLockPath(owner)?.interface;
  if (name !== undefined && !found.has(name) && !await isLocked(owner)) found.set(name, { interface: name });
  return [...found.values()];
}

/** Puts back what they left; what resists is logged. */
export async function undoResolverLeftovers(
  { places = {}, ...options }:
    & Omit<HostNetworkOptions, "directory" | "resolvConf">
    & { readonly logger: Logger; readonly places?: LeftoverPlaces },
): Promise<void> {
  const { resolvConf } = places;
  for (const { interface: name, directory } of await findResolverLeftovers(places)) {
    try {
      await HostNetwork.restoreResolver(name, {
        ...options,
        ...(directory !== undefined && { directory }),
        ...(resolvConf !== undefined && { resolvConf }),
      });
      options.logger.info("resolver_put_back", { interface: name });
    } catch (error) {
      // Its owner has just come back.
      if (error instanceof GinnelError && error.code === "ERR_NETWORK_IN_USE") continue;
      options.logger.warn("resolver_not_put_back", { interface: name, reason: errorMessage(error) });
    }
  }
}

/** The text of a file; empty where there is none that we may read. */
async function readText(path: string): Promise<string> {
  try {
    return await Deno.readTextFile(path);
  } catch (error) {
    const isClosed = error instanceof Deno.errors.NotFound || error instanceof Deno.errors.PermissionDenied;
    if (isClosed) return "";
    throw error;
  }
}
