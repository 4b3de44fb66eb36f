/** What a network's state grants: disabled and foreign identities get nothing by accident. */

import assert from "node:assert/strict";
import { applyChanges, emptyState } from "../../../src/core/network/apply.ts";
import type { NetworkChange } from "../../../src/core/network/changes.ts";
import { toPolicyDocument } from "../../../src/core/network/policy_document.ts";
import type { NetworkIdentity } from "../../../src/core/network/state.ts";
import { compilePolicy } from "../../../src/core/policy/snapshot.ts";

const WEB = "spiffe://other.example/agent/alice";

function identity(name: string, change: Partial<NetworkIdentity> = {}): NetworkChange {
  const spec: NetworkIdentity = {
    type: "agent",
    spiffeId: `spiffe://d/agent/${name}`,
    roleAttributes: [],
    derivedAttributes: [],
    disabled: false,
    address: null,
    ...change,
  };
  return { kind: "identity", id: name, value: { name, spec } };
}

function dial(identityRoles: readonly string[]): NetworkChange {
  const spec = { type: "Dial", semantic: "AnyOf", identityRoles, serviceRoles: ["@web"], tags: {} } as const;
  return { kind: "service-policy", id: "p", value: { name: "p", spec } };
}

const SERVICE: NetworkChange = {
  kind: "service",
  id: "web",
  value: { name: "web", spec: { encryptionRequired: false, roleAttributes: ["a"], configs: {} } },
};

const DOMAIN: NetworkChange = {
  kind: "trust-domain",
  id: "other",
  value: {
    name: "other.example",
    spec: { roots: [], rules: [{ path: "agent/*", roleAttributes: ["foreign"] }], disabled: false },
  },
};

function stateOf(...changes: NetworkChange[]) {
  return applyChanges(emptyState("d"), { revision: 1, changes });
}

function mayDial(id: string, ...changes: NetworkChange[]): boolean {
  const document = toPolicyDocument(stateOf(SERVICE, ...changes));
  return compilePolicy(document, { trustDomain: "d", declaredOnly: true }).mayDial(id, "web").verdict ===
    "allow";
}

Deno.test("a disabled or unknown identity has no right, whichever role would give it", () => {
  const id = "spiffe://d/agent/alice";
  for (const role of ["#all", "@alice", "@agent/alice", `@${id}`, "#a"]) {
    assert.equal(mayDial(id, dial([role]), identity("alice", { roleAttributes: ["a"] })), true, role);
    const disabled = identity("alice", { roleAttributes: ["a"], disabled: true });
    assert.equal(mayDial(id, dial([role]), disabled), false, role);
    assert.equal(mayDial(id, dial([role])), false, role);
  }
});

Deno.test("derived attributes count beside given ones", () => {
  const id = "spiffe://d/agent/alice";
  assert.equal(mayDial(id, dial(["#b"]), identity("alice", { derivedAttributes: ["b"] })), true);
});

Deno.test("a workload never answers to a name of the network's own", () => {
  const web = identity("agent/alice", { type: "workload", spiffeId: WEB });
  for (const role of ["@alice", "@agent/alice"]) {
    assert.equal(mayDial(WEB, DOMAIN, web, dial([role])), false, role);
  }
  for (const role of [`@${WEB}`, "@workload/agent/alice", "#foreign"]) {
    assert.equal(mayDial(WEB, DOMAIN, web, dial([role])), true, role);
  }
  // Nor does it take the name from the one who has it.
  const own = "spiffe://d/agent/alice";
  assert.equal(mayDial(own, DOMAIN, web, identity("alice"), dial(["@agent/alice"])), true);
});

Deno.test("a workload without a rule of an enabled domain has no right", () => {
  const web = identity("x", { type: "workload", spiffeId: WEB, roleAttributes: ["a"] });
  assert.equal(mayDial(WEB, web, dial(["#a"])), false);
  const disabled = { ...DOMAIN.value!, spec: { roots: [], rules: [], disabled: true } };
  assert.equal(mayDial(WEB, { ...DOMAIN, value: disabled } as NetworkChange, web, dial(["#a"])), false);
  assert.equal(mayDial(WEB, DOMAIN, web, dial(["#a"])), true);
});

Deno.test("a service has its configs as far as they are understood, the same object while they stay", () => {
  const intercept = { addresses: ["a.example"], portRanges: [{ low: 1, high: 1 }], protocols: ["tcp"] };
  const host = { protocol: "tcp", address: "localhost", port: 1 };
  const service = (spec: object): NetworkChange => ({
    kind: "service",
    id: "web",
    value: { name: "web", spec: { encryptionRequired: true, roleAttributes: [], configs: {}, ...spec } },
  });
  const configs = { "intercept.v1": intercept, "host.v1": host };
  const before = stateOf(service({ configs, index: 20, idleTimeout: 30 }));
  const [first] = toPolicyDocument(before).services;
  assert.deepEqual(first, {
    ...{ name: "web", roleAttributes: [], endToEnd: "required", index: 20, idleTimeout: 30, intercept, host },
  });
  const renamed = service({ configs, index: 20, idleTimeout: 60 });
  const [second] = toPolicyDocument(applyChanges(before, { revision: 2, changes: [renamed] })).services;
  assert.equal(second!.intercept, first!.intercept);
  assert.equal(second!.host, first!.host);
  const later = {
    "intercept.v1": { ...intercept, later: 1 },
    "host.v1": { address: "only" },
    "other.v1": {},
  };
  assert.deepEqual(toPolicyDocument(stateOf(service({ configs: later }))).services, [
    { name: "web", roleAttributes: [], endToEnd: "required" },
  ]);
});

Deno.test("what a change does not touch is the same list, so that it need not be compiled again", () => {
  const before = stateOf(SERVICE, dial(["#all"]), identity("a"));
  const after = applyChanges(before, { revision: 2, changes: [identity("b")] });
  const [first, second] = [toPolicyDocument(before), toPolicyDocument(after)];
  assert.equal(first.services, second.services);
  assert.equal(first.servicePolicies, second.servicePolicies);
  assert.notEqual(first.identities, second.identities);
  assert.deepEqual(first.services, [{ name: "web", roleAttributes: ["a"], endToEnd: "optional" }]);
  const options = { trustDomain: "d", declaredOnly: true };
  const compiled = compilePolicy(first, options);
  assert.equal(compilePolicy(second, { ...options, previous: compiled }).rules, compiled.rules);
});
