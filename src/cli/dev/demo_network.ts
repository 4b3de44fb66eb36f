/**
 * The files of a demo network: its CA, three identities, a policy and one config for each mode.
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
  /** Unix socket on which the demo service is to listen. */
  readonly socket: string;
}

/** The demo's service. */
export const DEMO_SERVICE = "hello";

const TRUST_DOMAIN = "dev.ginnel.internal";
const CA_DAYS = 2;
const IDENTITY_DAYS = 1;

const POLICY =
  `# The demo's policy: alice may reach "hello", the connector "laptop" may offer it, and nothing else is allowed.
services:
  - name: ${DEMO_SERVICE}
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
  const socket = join(folder, "hello.sock");
  const relays = [{ name: "relay-1", address: `127.0.0.1:${ports.relay}` }];
  const relay = `127.0.0.1:${ports.relay}`;
  return {
    socket,
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
    }),
    agentConfig: await writeConfig(folder, "agent", {
      mode: "agent",
      identity: "alice.json",
      relays,
      forwards: [{ listen: `127.0.0.1:${ports.forward}`, service: DEMO_SERVICE }],
      socks5: `127.0.0.1:${ports.socks5}`,
    }),
  };
}

async function writeConfig(folder: string, mode: string, config: unknown): Promise<string> {
  const path = join(folder, `${mode}-config.json`);
  await Deno.writeTextFile(path, JSON.stringify(config, null, 2) + "\n");
  return path;
}
