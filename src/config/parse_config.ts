/** Reads a config file: JSON text in, a frozen config with all defaults out, or every problem at once. */

import type { AgentConfig } from "./schema/agent.ts";
import type { ConnectorConfig } from "./schema/connector.ts";
import type { RelayConfig } from "./schema/relay.ts";

/** The config of any mode, told apart by `mode`. */
export type Config = RelayConfig | ConnectorConfig | AgentConfig;

/** Parses config text; `file` names it in errors and anchors relative paths. Throws `ConfigError`. */
export function parseConfig(_text: string, _options: { readonly file: string }): Config {
  throw new Error("not yet");
}

/** Reads and parses a config file. Throws `ConfigError`, also when the file cannot be read. */
export function loadConfig(_path: string): Promise<Config> {
  throw new Error("not yet");
}
