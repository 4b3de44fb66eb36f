/**
 * The files of a demo network: its CA, three identities, a policy and one config for each mode; and those of its IP
 * tunnel.
 */

import { join } from "node:path";
import { createCaDirectory } from "../../identity/ca_directory.ts";
import { issueIdentity } from "../../identity/issue_identity.ts";
import { writeSecretFile } from "../../identity/secret_file.ts";

/** Where the demo's parts listen. */
export interface DemoPorts {
  readonly relay: number;
  readonly health: number;
  readonly forward: number;
  readonly socks5: number;
}

/** Paths of what was written. */
export interface DemoNetwork {
  readonly relayConfig: string;
  readonly connectorConfig: string;
  readonly agentConfig: string;
  /** Unix socket at which the agent tells how it is. */
  readonly control: string;
  /** Unix socket on which the demo service is to listen. */
  readonly socket: string;
}

/** The demo's service. */
export const DEMO_SERVICE = "hello";

/** Its name, and the port at which it appears on a user's machine without a privilege. */
export const DEMO_NAME = `${DEMO_SERVICE}.ginnel.internal`;
export const DEMO_HIGH_PORT = 8080;

/** The interface of the demo's tunnel, on both of its ends. */
export const DEMO_TUNNEL_INTERFACE = "ginnel0";

/** The tunnel relay's audit log, in the demo's folder. */
export const DEMO_TUNNEL_AUDIT = "tunnel-audit.jsonl";

const TRUST_DOMAIN = "dev.ginnel.internal";
const CA_DAYS = 2;
const IDENTITY_DAYS = 1;

const POLICY =
  `# The demo's policy: alice may reach "hello", the connector "laptop" may offer it, and nothing else is allowed.
services:
  - name: ${DEMO_SERVICE}
    intercept:
      addresses: [${DEMO_NAME}]
      portRanges: [{ low: 80, high: 80 }, { low: ${DEMO_HIGH_PORT}, high: ${DEMO_HIGH_PORT} }]
      protocols: [tcp]
servicePolicies:
  - { name: alice-reaches-hello, type: Dial, identityRoles: ["@agent/alice"], serviceRoles: ["@${DEMO_SERVICE}"], semantic: AnyOf }
  - { name: laptop-offers-hello, type: Bind, identityRoles: ["@connector/laptop"], serviceRoles: ["@${DEMO_SERVICE}"], semantic: AnyOf }
`;

/** Writes a complete network into an empty folder. */
export async function writeDemoNetwork(folder: string, ports: DemoPorts): Promise<DemoNetwork> {
  const now = Date.now();
  const { ca, authority } = await createCaDirectory(join(folder, "ca"), {
    trustDomain: TRUST_DOMAIN,
    now,
    days: CA_DAYS,
  });
  for (const [kind, name] of [["relay", "relay-1"], ["connector", "laptop"], ["agent", "alice"]] as const) {
    const { text } = await issueIdentity(ca, {
      kind,
      name,
      now,
      days: IDENTITY_DAYS,
      authorities: [authority],
    });
    await writeSecretFile(join(folder, `${name}.json`), text);
  }
  await Deno.writeTextFile(join(folder, "policy.yaml"), POLICY);
  const socket = join(folder, "hello.sock"), control = join(folder, "agent.sock");
  const relays = [{ name: "relay-1", address: `127.0.0.1:${ports.relay}` }];
  const relay = `127.0.0.1:${ports.relay}`;
  return {
    socket,
    control,
    relayConfig: await writeConfig(folder, "relay", {
      mode: "relay",
      identity: "relay-1.json",
      listen: { quic: relay, tls: relay },
      policy: ["policy.yaml"],
      authority: { key: "ca/authority.key" },
      health: `127.0.0.1:${ports.health}`,
      audit: { file: "audit.jsonl" },
    }),
    connectorConfig: await writeConfig(folder, "connector", {
      mode: "connector",
      identity: "laptop.json",
      relays,
      services: [{ name: DEMO_SERVICE, upstream: `unix:${socket}` }],
      // In the usual place it would stand among the machine's own nodes.
      control: null,
    }),
    agentConfig: await writeConfig(folder, "agent", {
      mode: "agent",
      identity: "alice.json",
      relays,
      forwards: [{ listen: `127.0.0.1:${ports.forward}`, service: DEMO_SERVICE, port: 80 }],
      socks5: `127.0.0.1:${ports.socks5}`,
      // Whoever runs this, the machine's own network stays as it is.
      services: { capture: false, autoForward: true },
      control: `unix:${control}`,
    }),
  };
}

/** Where the tunnel's relay listens, and what is behind it. */
export interface TunnelAddresses {
  readonly relay: string;
  /** What alice may reach, but for one address. */
  readonly network: string;
  readonly forbidden: string;
}

/** Paths of what the tunnel needs. */
export interface TunnelNetwork {
  readonly relayConfig: string;
  readonly connectorConfig: string;
  readonly agentConfig: string;
  /** Where each node keeps what it has set up: on one file system they must not share it. */
  readonly stateFolders: { readonly relay: string; readonly service: string; readonly agent: string };
}

/** Adds the files of a tunnel to those of a demo network, whose identities it uses. */
export async function writeTunnelNetwork(
  folder: string,
  addresses: TunnelAddresses,
): Promise<TunnelNetwork> {
  await Deno.writeTextFile(join(folder, "egress.yaml"), egressPolicy(addresses));
  const stateFolders = {
    relay: join(folder, "relay-state"),
    service: join(folder, "service-state"),
    agent: join(folder, "agent-state"),
  };
  for (const path of Object.values(stateFolders)) await Deno.mkdir(path, { mode: 0o700 });
  const address = `${addresses.relay}:4433`;
  const relays = [{ name: "relay-1", address }];
  return {
    stateFolders,
    relayConfig: await writeConfig(folder, "tunnel-relay", {
      mode: "relay",
      identity: "relay-1.json",
      listen: { quic: address, tls: address },
      policy: ["policy.yaml"],
      authority: { key: "ca/authority.key" },
      health: null,
      audit: { file: DEMO_TUNNEL_AUDIT },
      // IPv6 is left out: not every kernel has it.
      tunnel: { interface: DEMO_TUNNEL_INTERFACE, ipv6: null, policy: ["egress.yaml"] },
      drainSeconds: 0,
    }),
    connectorConfig: await writeConfig(folder, "tunnel-connector", {
      mode: "connector",
      identity: "laptop.json",
      relays,
      services: [{ name: DEMO_SERVICE, upstream: "tcp://127.0.0.1:80" }],
    }),
    agentConfig: await writeConfig(folder, "tunnel-agent", {
      mode: "agent",
      identity: "alice.json",
      relays,
      tunnel: { interface: DEMO_TUNNEL_INTERFACE },
      // The namespace's resolv.conf names the agent's resolver already.
      services: { capture: true, dns: "serve" },
    }),
  };
}

function egressPolicy({ network, forbidden }: TunnelAddresses): string {
  return `# Where alice's packets may leave to: the first rule that matches decides, and nothing else is allowed.
default_action: deny
clients:
  agent/alice:
    rules:
      - { id: not-this-one, type: ip_cidr, action: reject, destinations: [${forbidden}] }
      - { id: web, type: ip_cidr, action: allow, destinations: [${network}], protocol: tcp, ports: [80] }
      - { id: ping, type: ip_cidr, action: allow, destinations: [${network}], protocol: icmp }
`;
}

async function writeConfig(folder: string, mode: string, config: unknown): Promise<string> {
  const path = join(folder, `${mode}-config.json`);
  await Deno.writeTextFile(path, JSON.stringify(config, null, 2) + "\n");
  return path;
}
