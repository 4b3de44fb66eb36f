/** Whose rules are which: exact names before attributes before everybody, and nobody by accident. */

import assert from "node:assert/strict";
import type { ClientRules } from "../../../src/core/egress/client_rules.ts";
import type { EgressIdentity } from "../../../src/core/egress/document.ts";
import { EgressEngine } from "../../../src/core/egress/engine.ts";
import { compileText, identity, packet } from "../../support/egress.ts";

const rule = (id: string, destination: string, action = "allow") =>
  `{id: ${id}, type: ip_cidr, action: ${action}, destinations: [${destination}]}`;

const TEXT = `
clients:
  "#all": {rules: [${rule("all", "0.0.0.0/0")}]}
  "#late": {rules: [${rule("late", "198.51.100.0/24", "reject")}]}
  "#nurses": {rules: [${rule("nurses", "198.51.100.0/24")}]}
  alice: {rules: [${rule("name", "192.0.2.0/24")}]}
  agent/alice: {rules: [${rule("path", "192.0.2.0/25")}]}
  spiffe://d/agent/alice: {rules: [${rule("id", "192.0.2.0/26")}]}
  spiffe://e/agent/guest: {rules: [${rule("guest", "203.0.113.0/24")}]}
  connector/c: {rules: [${rule("connector", "203.0.113.0/24")}]}
`;

function deciding(rules: ClientRules | undefined, to: string): string | undefined {
  if (rules === undefined) return undefined;
  const engine = new EgressEngine({ capacityPerClient: 16, capacity: 16 });
  return engine.client({ identity: "x", rules }).outbound(packet({ to }), 0).rule;
}

const TABLE: [who: EgressIdentity, to: string, rule: string | undefined][] = [
  [identity("agent/alice"), "192.0.2.1", "id"],
  [identity("agent/alice"), "192.0.2.65", "path"],
  [identity("agent/alice"), "192.0.2.129", "name"],
  [identity("agent/alice"), "198.51.100.1", "all"],
  [identity("agent/alice", { attributes: ["nurses"] }), "198.51.100.1", "nurses"],
  [identity("agent/alice", { attributes: ["nurses", "late"] }), "198.51.100.1", "late"],
  [identity("agent/alice", { attributes: ["nurses", "late"] }), "192.0.2.1", "id"],
  [identity("user/alice"), "192.0.2.1", "name"],
  [identity("agent/bob"), "192.0.2.1", "all"],
  [identity("agent/alice", { domain: "e" }), "192.0.2.1", undefined],
  [identity("agent/guest", { domain: "e" }), "203.0.113.1", "guest"],
  [identity("agent/guest", { domain: "e" }), "192.0.2.1", ""],
  [identity("agent/x", { domain: "e", attributes: ["nurses"] }), "198.51.100.1", "nurses"],
  [identity("connector/c"), "203.0.113.1", "connector"],
  [identity("connector/c"), "192.0.2.1", ""],
  [identity("connector/alice"), "192.0.2.1", undefined],
  [identity("relay/alice", { attributes: ["nurses"] }), "192.0.2.1", undefined],
];

const snapshot = compileText(TEXT);
for (const [who, to, expected] of TABLE) {
  const name = `${who.uri} [${[...who.attributes]}]`;
  Deno.test(`${name} to ${to}: ${expected === undefined ? "no tunnel" : expected || "no rule"}`, () => {
    assert.equal(deciding(snapshot.rulesFor(who), to), expected);
  });
}

Deno.test("an empty document gives nobody a tunnel; an entry without rules gives one that denies", () => {
  assert.equal(compileText("clients: {}").rulesFor(identity("agent/alice")), undefined);
  const rules = compileText("clients: {alice: {rules: []}}").rulesFor(identity("agent/alice"));
  assert.equal(deciding(rules, "8.8.8.8"), "");
  assert.deepEqual(rules?.routes(), []);
});

Deno.test("default_action decides what no rule does, except for pools and what is not routable", () => {
  for (const [word, action] of [["allow", "allow"], ["deny", "drop"], ["reject", "reject"]] as const) {
    const rules = compileText(`default_action: ${word}\nclients: {alice: {rules: []}}`)
      .rulesFor(identity("agent/alice"));
    const client = new EgressEngine({ capacityPerClient: 16, capacity: 16 }).client({ identity: "x", rules });
    assert.equal(client.outbound(packet({ to: "8.8.8.8" }), 0).action, action);
    assert.equal(client.outbound(packet({ to: "10.100.0.20" }), 0).action, "drop");
    assert.equal(client.outbound(packet({ to: "127.0.0.1" }), 0).action, "drop");
    assert.equal(client.outbound(packet({ to: "8.8.8.8" }), 0).reason, "default_action");
  }
});

Deno.test("rules that can do nothing are told of", () => {
  const text = `clients: {alice: {rules: [
    ${rule("loopback", "127.0.0.0/8")}, ${rule("loopback-denied", "127.0.0.0/8", "deny")},
    ${rule("everything", '0.0.0.0/0, "::/0"')}, {id: some, type: default, action: deny, protocol: tcp},
    ${rule("fine", "8.8.8.8")}, {id: rest, type: default, action: deny}, ${rule("late", "8.8.4.4")}]}}`;
  assert.deepEqual(compileText(text.replaceAll("\n", " ")).warnings, [
    { client: "alice", rule: "loopback", reason: "destination_not_routable" },
    { client: "alice", rule: "late", reason: "after_default" },
  ]);
});
