/** The example files in config/ load, and their policy grants what its comments say. */

import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { parse as parseYaml } from "yaml";
import { parseIp, parsePrefix } from "../../src/base/ip.ts";
import { loadEgress, parseEgress } from "../../src/config/egress_file.ts";
import { loadConfig, parseConfig } from "../../src/config/parse_config.ts";
import { loadPolicy, parsePolicy } from "../../src/config/policy_file.ts";
import type { RelayTunnelConfig } from "../../src/config/schema/tunnel.ts";
import { compileEgress } from "../../src/core/egress/snapshot.ts";
import { Ipam } from "../../src/core/ipam.ts";
import { compilePolicy } from "../../src/core/policy/snapshot.ts";

const FOLDER = fileURLToPath(new URL("../../config", import.meta.url));

const VARIANTS = ["relay-tunnel", "agent-tunnel", "agent-services", "agent-container", "connector-hosting"];

for (const name of ["relay", "connector", "agent", ...VARIANTS]) {
  Deno.test(`config/${name}.json loads`, async () => {
    const config = await loadConfig(`${FOLDER}/${name}.json`);
    assert.equal(config.mode, name.split("-")[0]);
    assert.equal("tunnel" in config, name.endsWith("-tunnel"));
    assert.ok("identity" in config && typeof config.identity === "string");
    assert.ok(config.identity.startsWith(`${FOLDER}/identities/`));
  });
}

for (const [name, mode] of [["controller", "controller"], ["relay-embedded", "relay"]]) {
  Deno.test(`config/${name}.json loads`, async () => {
    const config = await loadConfig(`${FOLDER}/${name}.json`);
    assert.equal(config.mode, mode);
    const controller = config.mode === "relay" ? config.controller : config;
    assert.ok(controller !== undefined && "trustDomain" in controller);
    assert.equal(controller.trustDomain, "clinic.example");
  });
}

Deno.test("config/policy.yaml and the S0 example grant what they say, together without warnings", async () => {
  const document = await loadPolicy([`${FOLDER}/policy.yaml`, `${FOLDER}/rtmx-sync-access.json`]);
  const snapshot = compilePolicy(document, { trustDomain: "d" });
  assert.deepEqual(snapshot.warnings, []);
  const allows = (id: string) =>
    ["rtmx-sync", "postgres", "telemetry", "files"].flatMap((service) => [
      ...(snapshot.mayDial(`spiffe://d/${id}`, service).verdict === "allow" ? [`dial ${service}`] : []),
      ...(snapshot.mayBind(`spiffe://d/${id}`, service).verdict === "allow" ? [`bind ${service}`] : []),
    ]);
  const office = ["dial telemetry", "dial files"];
  assert.deepEqual(allows("agent/alice"), ["dial rtmx-sync", "dial postgres", ...office]);
  assert.deepEqual(allows("connector/rtmx-host"), ["bind rtmx-sync", "bind postgres", ...office]);
  assert.deepEqual(allows("connector/office"), [
    ...["dial telemetry", "bind telemetry", "dial files", "bind files"],
  ]);
  assert.deepEqual(allows("agent/bob"), office);
  assert.deepEqual(allows("user/alice"), office);
});

Deno.test("config/connector-hosting.json lets what config/policy.yaml hosts, and no more", async () => {
  const { services } = await loadPolicy([`${FOLDER}/policy.yaml`]);
  const { host, intercept } = services.find(({ name }) => name === "files")!;
  assert.deepEqual(host?.allowedAddresses, intercept?.addresses);
  const { hosting } = JSON.parse(await Deno.readTextFile(`${FOLDER}/connector-hosting.json`));
  const hosted = host?.allowedAddresses?.map((address) => `${address}:${host.port}`) ?? [];
  assert.deepEqual(hosting.allow.toSorted(), hosted.toSorted());
});

Deno.test("config/compose.yaml gives its agent what capture needs and no other right", async () => {
  const text = await Deno.readTextFile(`${FOLDER}/compose.yaml`);
  const { agent, program } =
    (parseYaml(text) as { services: Record<string, Record<string, unknown>> }).services;
  assert.deepEqual([agent?.cap_drop, agent?.cap_add], [["ALL"], ["NET_ADMIN"]]);
  assert.deepEqual([agent?.devices, agent?.privileged], [["/dev/net/tun"], undefined]);
  assert.equal(program?.network_mode, "service:agent");
  const path = (agent?.command as string[]).at(-1)!.replace("/etc/ginnel", FOLDER);
  const config = await loadConfig(path);
  assert.ok(config.mode === "agent" && config.services?.capture === true && config.services.dns === true);
});

Deno.test("config/egress.yaml compiles without warnings for the pools of config/relay-tunnel.json", async () => {
  const config = await loadConfig(`${FOLDER}/relay-tunnel.json`);
  assert.ok(config.mode === "relay" && config.tunnel !== undefined);
  assert.deepEqual(config.tunnel.policy, [`${FOLDER}/egress.yaml`]);
  const document = await loadEgress(config.tunnel.policy);
  const snapshot = compileEgress(document, { trustDomain: "d", pools: [parsePrefix("10.100.0.0/24")!] });
  assert.deepEqual(snapshot.warnings, []);
  const rulesOf = (name: string, ...attributes: string[]) =>
    snapshot.rulesFor({
      uri: `spiffe://d/agent/${name}`,
      kind: "agent",
      name,
      attributes: new Set(attributes),
    });
  assert.deepEqual(rulesOf("alice")?.names, ["example.com", "*.example.com"]);
  assert.ok(rulesOf("carol", "administrators")?.routes().some(({ length }) => length === 0));
});

Deno.test("the reservations of config/relay-tunnel.json fit its pools", async () => {
  const { tunnel } = await loadConfig(`${FOLDER}/relay-tunnel.json`) as { tunnel: RelayTunnelConfig };
  const alice = "spiffe://d/agent/alice";
  const addresses = tunnel.reservations["agent/alice"]!;
  const reservations = new Map([[alice, addresses]]);
  const ipam = new Ipam({ ...tunnel, ipv6: null, reservations });
  const allocation = ipam.allocate(alice, 0);
  assert.ok(allocation.ok);
  assert.deepEqual(allocation.lease.ipv4, parseIp("10.100.0.10"));
});

Deno.test("the examples of the README load, and their policies compile without warnings", async () => {
  const readme = await Deno.readTextFile(new URL("../../README.md", import.meta.url));
  const kinds: string[] = [];
  for (const [, language, text] of readme.matchAll(/```(json|yaml)\n([^]*?)```/g)) {
    if (language === "yaml") kinds.push(checkPolicy(text!));
    else kinds.push(parseConfig(completed(JSON.parse(text!)), { file: "/README.json" }).mode);
  }
  assert.deepEqual(kinds, [
    "relay",
    "connector",
    "relay",
    "policy",
    "agent",
    "controller",
    "relay",
    ...["relay", "egress", "egress", "agent"],
  ]);
});

/** A whole config, where the README shows what to add to one. */
function completed(shown: Record<string, unknown>): string {
  if ("mode" in shown) return JSON.stringify(shown);
  const isRelay = "policy" in (shown.tunnel as object);
  const base = isRelay
    ? { mode: "relay", policy: ["policy.yaml"], authority: { key: "authority.key" } }
    : { mode: "agent", relays: [{ name: "relay-1", address: "relay.clinic.example:4433" }] };
  return JSON.stringify({ ...base, identity: "id.json", ...shown });
}

function checkPolicy(text: string): "egress" | "policy" {
  const source = [{ file: "README.yaml", text }];
  const isEgress = text.includes("\nclients:");
  const { warnings } = isEgress
    ? compileEgress(parseEgress(source), { trustDomain: "d", pools: [parsePrefix("10.100.0.0/24")!] })
    : compilePolicy(parsePolicy(source), { trustDomain: "d" });
  // Identities need no declaration; `check` does not ask for one either.
  assert.deepEqual(warnings.filter(({ reason }) => reason !== "undeclared_identity"), []);
  return isEgress ? "egress" : "policy";
}
