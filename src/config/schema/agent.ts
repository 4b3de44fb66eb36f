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
  unixAddress,
} from "./common.ts";
import { servicePool } from "./services.ts";
import { agentTunnelSchema, interfaceName } from "./tunnel.ts";

const forward = z.strictObject({
  listen: listenAddress.describe("Local address that leads to the service."),
  service: serviceName.describe("The service to reach."),
  port: z.int().min(1).max(65_535).exactOptional().describe(
    "Port asked of the service, where it has several.",
  ),
});

/** How services appear on this machine. */
const services = z.strictObject({
  capture: z.union([z.boolean(), z.literal("auto")]).default("auto").describe(
    "Catches the services' virtual addresses by a network interface of its own; needs CAP_NET_ADMIN and /dev/net/tun. `auto`: where that is possible, else `autoForward`.",
  ),
  interface: interfaceName("ginnel1").describe("Name of that interface."),
  ipv4: servicePool(4).exactOptional().describe(
    "A /16 for virtual addresses here, where the network's own (10.101.0.0/16) is in use already.",
  ),
  ipv6: servicePool(6).exactOptional().describe("A /64 for virtual IPv6 addresses here."),
  dns: z.union([z.boolean(), z.literal("serve")]).default(true).describe(
    "Makes this machine ask the agent for the services' names. `serve`: answers at the first virtual address, but changes nothing on the machine.",
  ),
  autoForward: z.union([z.boolean(), z.literal("auto")]).default("auto").describe(
    "Listens on addresses in 127.0.0.0/8, one for each service. `auto`: where `capture` is not possible.",
  ),
}).describe("Services as policy grants them, by name, as they come and go.");

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
  services: services.exactOptional().describe(
    "How services appear on this machine, as they come and go. Absent: not at all where there is a forward, a proxy or a tunnel; else with all defaults.",
  ),
  tunnel: agentTunnelSchema.exactOptional(),
  carrier,
  control: unixAddress.nullable().exactOptional().describe(
    "Unix socket at which `ginnel status` asks; one in the state directory when absent, `null`: none.",
  ),
  health: healthAddress.nullable().prefault(null)
    .describe("Where `/health` and `/ready` are served; off by default."),
  log,
}).superRefine((config, context) => {
  const { tunnel } = config;
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

/** How services appear, all defaults applied. */
export type AgentServicesConfig = z.output<typeof services>;

/** How services are to appear; undefined: not at all. */
export function servicesOf(config: AgentConfig): AgentServicesConfig | undefined {
  const { forwards, socks5, httpProxy, tunnel } = config;
  if (config.services !== undefined) return config.services;
  const hasOther = forwards.length > 0 || [socks5, httpProxy, tunnel].some((other) => other !== undefined);
  return hasOther ? undefined : services.parse({});
}

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
