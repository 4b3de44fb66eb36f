/**
 * Starts the node a config describes.
 */

import type { Config } from "../config/parse_config.ts";
import { runAgent } from "./agent/agent.ts";
import { runConnector } from "./connector/connector.ts";
import { runController } from "./controller/controller.ts";
import { runRelay } from "./relay/relay.ts";
import type { ModeContext, Running } from "./running.ts";

/** Starts a node; resolves once it runs, rejects when it cannot start. */
export function runMode(config: Config, context: ModeContext): Promise<Running> {
  switch (config.mode) {
    case "relay":
      return runRelay(config, context);
    case "connector":
      return runConnector(config, context);
    case "controller":
      return runController(config, context);
    case "agent":
      return runAgent(config, context);
  }
}
