/**
 * What a killed node leaves in the machine's network: undone here, when nobody is to start it again.
 */

import { SILENT_LOGGER } from "../../base/log.ts";
import type { Config } from "../../config/parse_config.ts";
import { servicesOf } from "../../config/schema/agent.ts";
import { HostNetwork, type HostNetworkOptions } from "../../io/network/host_network.ts";

/** Undoes routes, rules and resolver of a node that does not run; `directory` has its journals, if they are left. */
export async function undoLeftovers(
  config: Config,
  options: Partial<HostNetworkOptions> & { readonly directory: string },
): Promise<void> {
  for (const name of interfacesOf(config)) {
    const network = await HostNetwork.open(name, { logger: SILENT_LOGGER, ...options });
    await network.close();
  }
}

/** The interfaces that a node makes. */
function interfacesOf(config: Config): string[] {
  if (config.mode !== "agent" && config.mode !== "relay") return [];
  const services = config.mode === "agent" ? servicesOf(config) : undefined;
  return [
    ...(config.tunnel === undefined ? [] : [config.tunnel.interface]),
    ...(services === undefined || services.capture === false ? [] : [services.interface]),
  ];
}
