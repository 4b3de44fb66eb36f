/** Where the node of a config listens for `ginnel status`. */

import type { AgentConfig } from "../config/schema/agent.ts";
import type { ConnectorConfig } from "../config/schema/connector.ts";
import { loadIdentity } from "../identity/identity_file.ts";
import { controlSocketsOf } from "../modes/status/ask_status.ts";

/** The sockets at which it may be asked, likeliest first; none where the config sets none or does not tell the name. */
export async function controlSocketsOfConfig(config: AgentConfig | ConnectorConfig): Promise<string[]> {
  const { control, identity } = config;
  if (control === null) return [];
  if (control?.kind === "unix") return [control.path];
  if (typeof identity !== "string") return [];
  return controlSocketsOf((await loadIdentity(identity, { evenExpired: true })).id);
}
