/** The `tunnel` part of the relay's and the agent's config: IP tunnels (RFC 9484). */

import { z } from "zod";
import { type IpAddress, type IpPrefix, parseIp, parsePrefix, prefixContains } from "../../base/ip.ts";
import { dialAddress, duration, filePath } from "./common.ts";

/** Bits a pool needs at least: a network, a gateway and one client. */
const MAX_POOL_LENGTH = { 4: 30, 6: 126 } as const;

/** An IP prefix as text. */
export const prefix = z.string().transform((text, context): IpPrefix => {
  const parsed = parsePrefix(text);
  if (parsed !== undefined) return parsed;
  context.addIssue({ code: "custom", message: "not a prefix: write 10.0.0.0/8 or fd00:1::/64" });
  return z.NEVER;
}).meta({ type_name: "IP prefix" });

const address = z.string().transform((text, context): IpAddress => {
  const parsed = parseIp(text);
  if (parsed !== undefined) return parsed;
  context.addIssue({ code: "custom", message: "not an IP address" });
  return z.NEVER;
}).meta({ type_name: "IP address" });

/** Name of a network interface we make. */
export function interfaceName(fallback: string) {
  return z.string()
    .regex(/^[a-z][a-z0-9_.-]{0,14}$/, "not an interface name: up to 15 of a-z 0-9 _ . -, a letter first")
    .default(fallback);
}

const dialect = z.enum(["rfc9484", "zgate"]);

/** Which addresses tunnels use: a relay's own affair in files mode, else the controller's. */
export const poolFields = {
  ipv4: pool(4).nullable().prefault("10.100.0.0/24")
    .describe("Pool of IPv4 addresses for clients; its first is the relay's own. `null`: no IPv4."),
  ipv6: pool(6).nullable().exactOptional()
    .describe(
      "Pool of IPv6 addresses. Absent: a /64 of unique local addresses that follows from the trust domain. `null`: no IPv6.",
    ),
  reservations: z.record(z.string().min(1).max(2048), z.array(address).min(1).max(2)).prefault({})
    .describe('Fixed addresses: `{ "agent/alice": ["10.100.0.10"] }`.'),
  leaseTime: duration({ min: "1m", max: "3650d" }).prefault("30d")
    .describe("How long an absent client keeps its address when the pool is full."),
};

/** IP tunnels at a relay. */
export const relayTunnelSchema = z.strictObject({
  interface: interfaceName("ginnel0").describe("Name of the network interface the relay makes."),
  ...poolFields,
  leases: filePath.prefault("leases.jsonl").describe("File that remembers who has which address."),
  policy: z.array(filePath).max(256).prefault([]).describe(
    "Egress policy files (YAML or JSON): who may send packets where. Read again when they change. With a controller: none.",
  ),
  routes: z.union([z.literal("policy"), z.array(prefix).min(1).max(1_024)], {
    error: "expected policy, or a list of prefixes such as 10.0.0.0/8",
  }).prefault("policy")
    .describe("What clients are told to send here: what their egress rules allow, or these prefixes."),
  nat: z.enum(["masquerade", "none"]).default("masquerade")
    .describe(
      "`masquerade`: the relay sets up NAT and forwarding by nftables and undoes it; `none`: the operator routes the pools.",
    ),
  dialects: z.array(z.literal("zgate")).max(1).prefault([])
    .describe("Older wire formats to serve beside RFC 9484."),
  maxFlows: z.int().min(16).max(1_000_000).default(4_096).describe("Flows tracked for one client."),
}).superRefine(refinePools).describe(
  "IP tunnels (RFC 9484); absent: none are served. Needs CAP_NET_ADMIN and /dev/net/tun.",
);

/** An IP tunnel of an agent. */
export const agentTunnelSchema = z.strictObject({
  interface: interfaceName("ginnel0").describe("Name of the network interface the agent makes."),
  relay: z.string().min(1).max(63).exactOptional()
    .describe("Name of the relay to tunnel to; absent: the first that is connected."),
  routes: z.union([z.enum(["advertised", "full"]), z.array(prefix).min(1).max(1_024)], {
    error: "expected advertised, full, or a list of prefixes such as 10.0.0.0/8",
  }).prefault("advertised")
    .describe(
      "What goes through the tunnel: what the relay advertises, everything (`full`), or those of these prefixes that it advertises.",
    ),
  dns: z.array(address).max(3).prefault([]).describe(
    "Name servers to use while the tunnel is up; they are routed into it.",
  ),
  killSwitch: z.boolean().default(false)
    .describe("Lets nothing that belongs in the tunnel leave by another way, also while the tunnel is down."),
  dialect: dialect.default("rfc9484").describe("Wire format."),
  proxy: z.strictObject({
    address: dialAddress.describe("Where the proxy listens (UDP)."),
    serverName: z.string().min(1).max(253).describe("Name in the proxy's certificate."),
    path: z.string().regex(/^\/[\x21-\x7e]*$/, "not a path").max(2048).default("/.well-known/masque/ip/*/*/")
      .describe("Request path, its URI template already filled in."),
    roots: filePath.describe("PEM file with the certificates that vouch for the proxy."),
    authorization: z.string().min(1).max(8192).exactOptional().describe(
      "Value of the Authorization header.",
    ),
  }).exactOptional().describe("A foreign RFC 9484 proxy to tunnel to, instead of a relay of this network."),
}).describe("An IP tunnel (RFC 9484); absent: none. Needs CAP_NET_ADMIN and /dev/net/tun.");

/** The relay's tunnel settings, all defaults applied. */
export type RelayTunnelConfig = z.output<typeof relayTunnelSchema>;
/** The agent's tunnel settings, all defaults applied. */
export type AgentTunnelConfig = z.output<typeof agentTunnelSchema>;

/** Pools that fit together, and reservations that lie in them. */
export function refinePools(
  tunnel: {
    readonly ipv4: IpPrefix | null;
    readonly ipv6?: IpPrefix | null;
    readonly reservations: Readonly<Record<string, readonly IpAddress[]>>;
  },
  context: z.RefinementCtx,
): void {
  if (tunnel.ipv4 === null && tunnel.ipv6 === null) {
    context.addIssue({ code: "custom", path: ["ipv4"], message: "no pool left: give ipv4 or ipv6" });
  }
  for (const [name, addresses] of Object.entries(tunnel.reservations)) {
    addresses.forEach((address, index) => {
      const pool = address.version === 4 ? tunnel.ipv4 : tunnel.ipv6;
      // The pool that follows from the trust domain is not known yet; the relay checks that one.
      if (pool === undefined || (pool !== null && prefixContains(pool, address))) return;
      context.addIssue({
        code: "custom",
        path: ["reservations", name, index],
        message: "lies in no pool of this tunnel",
      });
    });
  }
}

function pool(version: 4 | 6) {
  return prefix.superRefine((value, context) => {
    if (value.version !== version) {
      context.addIssue({ code: "custom", message: `not an IPv${version} prefix` });
    } else if (value.length > MAX_POOL_LENGTH[version]) {
      context.addIssue({ code: "custom", message: `too small: at most /${MAX_POOL_LENGTH[version]}` });
    }
  });
}
