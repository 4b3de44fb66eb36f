/** Config of mode `agent`. */

import { z } from "zod";
import type { HostPort } from "../../base/address.ts";
import {
  carrier,
  healthAddress,
  listenAddress,
  log,
  networkRelays,
  nodeIdentity,
  resolveIdentity,
  serviceName,
  unique,
} from "./common.ts";
import { agentTunnelSchema } from "./tunnel.ts";

const forward = z.strictObject({
  listen: listenAddress.describe("Local address that leads to the service."),
  service: serviceName.describe("The service to reach."),
  port: z.int().min(1).max(65_535).exactOptional().describe(
    "Port asked of the service, where it has several.",
  ),
});

/** Schema of the agent's config file. */
export const agentSchema = z.strictObject({
  mode: z.literal("agent"),
  identity: nodeIdentity.describe(
    "Identity file of the agent, made by `ginnel enroll`, `ginnel login` or `ginnel ca issue agent NAME`, or an SVID's files.",
  ),
  relays: networkRelays,
  forwards: z.array(forward).max(1_024).superRefine(unique("listen")).prefault([])
    .describe("Local ports, each leading to one service."),
  socks5: listenAddress.exactOptional().describe("SOCKS5 proxy; host names are service names."),
  httpProxy: listenAddress.exactOptional().describe("HTTP CONNECT proxy; host names are service names."),
  allowRemoteClients: z.boolean().default(false)
    .describe(
      "Lets listeners use other than loopback addresses: whoever reaches them acts as this identity.",
    ),
  tunnel: agentTunnelSchema.exactOptional(),
  carrier,
  health: healthAddress.nullable().prefault(null)
    .describe("Where `/health` and `/ready` are served; off by default."),
  log,
}).superRefine((config, context) => {
  const { forwards, socks5, httpProxy, tunnel } = config;
  const hasFrontEnd = forwards.length > 0 || socks5 !== undefined || httpProxy !== undefined;
  if (!hasFrontEnd && tunnel === undefined) {
    context.addIssue({
      code: "custom",
      path: [],
      message: "nothing to do: give forwards, socks5, httpProxy or tunnel",
    });
  }
  if (
    tunnel?.relay !== undefined && config.relays.length > 0 &&
    !config.relays.some(({ name }) => name === tunnel.relay)
  ) {
    context.addIssue({ code: "custom", path: ["tunnel", "relay"], message: "is none of the relays" });
  }
  if (config.allowRemoteClients) return;
  const refuseRemote = (address: HostPort | undefined, path: (string | number)[]) => {
    if (address === undefined || isLoopback(address.hostname)) return;
    context.addIssue({
      code: "custom",
      path,
      message: "not a loopback address: listen on 127.0.0.1 or [::1], or set allowRemoteClients to true",
    });
  };
  config.forwards.forEach((entry, index) => refuseRemote(entry.listen, ["forwards", index, "listen"]));
  refuseRemote(config.socks5, ["socks5"]);
  refuseRemote(config.httpProxy, ["httpProxy"]);
  if (config.health?.kind === "tcp") refuseRemote(config.health, ["health"]);
});

/** The agent's config, all defaults applied. */
export type AgentConfig = z.output<typeof agentSchema>;

/** Makes every path of the config absolute. */
export function resolveAgentPaths(config: AgentConfig, resolve: (path: string) => string): AgentConfig {
  const { tunnel } = config;
  return {
    ...config,
    identity: resolveIdentity(config.identity, resolve),
    ...(tunnel?.proxy !== undefined && {
      tunnel: { ...tunnel, proxy: { ...tunnel.proxy, roots: resolve(tunnel.proxy.roots) } },
    }),
  };
}

/** Strict: a name that merely starts with `127.` or resolves to loopback is not one. */
function isLoopback(hostname: string): boolean {
  if (hostname === "localhost" || hostname === "::1") return true;
  const octets = hostname.split(".");
  return octets.length === 4 && octets[0] === "127" &&
    octets.every((octet) => /^(?:0|[1-9][0-9]{0,2})$/.test(octet) && Number(octet) <= 255);
}
