/**
 * Starts the node a config describes.
 */

import type { Config } from "../config/parse_config.ts";
import type { ModeContext, Running } from "./running.ts";

/**
 * Starts a node; resolves once it runs, rejects when it cannot start. Each mode loads its own modules: an agent has no
 * use for a database.
 */
export async function runMode(config: Config, context: ModeContext): Promise<Running> {
  switch (config.mode) {
    case "relay":
      return await (await import("./relay/relay.ts")).runRelay(config, context);
    case "connector":
      return await (await import("./connector/connector.ts")).runConnector(config, context);
    case "controller":
      return await (await import("./controller/controller.ts")).runController(config, context);
    case "agent":
      return await (await import("./agent/agent.ts")).runAgent(config, context);
  }
}
