/** The folder of a controller: made at its first start, together with the network's CA. */

import { pathExists } from "../../base/paths.ts";
import { join } from "node:path";
import { GinnelError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { ControllerSettings } from "../../config/schema/controller.ts";
import { caPaths, createCaDirectory } from "../../identity/ca_directory.ts";

/** Life of a CA made at the first start, in days. */
const CA_DAYS = 3_650;

/** Where a controller keeps its things. */
export interface DataPaths {
  readonly ca: string;
  readonly identity: string;
  readonly relayIdentity: string;
  readonly bootstrapToken: string;
}

/** The files in a controller's folder. */
export function dataPaths(data: string): DataPaths {
  return {
    ca: join(data, "ca"),
    identity: join(data, "controller.identity.json"),
    relayIdentity: join(data, "relay.identity.json"),
    bootstrapToken: join(data, "bootstrap-token"),
  };
}

/**
 * Makes folder and CA where there are none. A controller on PostgreSQL makes no CA once another has: two CAs would
 * make two networks.
 */
export async function prepareDataFolder(
  { data, trustDomain }: Pick<ControllerSettings, "data" | "trustDomain">,
  options: { readonly isFirst: boolean; readonly logger: Logger },
): Promise<DataPaths> {
  const paths = dataPaths(data);
  await Deno.mkdir(data, { recursive: true, mode: 0o700 });
  if (await pathExists(caPaths(paths.ca).certificate)) return paths;
  if (!options.isFirst) {
    throw new GinnelError(
      "ERR_CA_MISSING",
      `Cannot start: there is no CA in ${paths.ca}, but the network has one`,
      {
        hint: "Copy the folder from another controller of this network, keeping its modes",
      },
    );
  }
  await createCaDirectory(paths.ca, { trustDomain, now: Date.now(), days: CA_DAYS });
  options.logger.info("ca_created", { directory: paths.ca, trustDomain });
  return paths;
}
