/** Views hold exactly what the policy grants their subject, and the peers it grants to. */

import assert from "node:assert/strict";
import type { PolicyDocument } from "../../../src/core/policy/document.ts";
import { compilePolicy } from "../../../src/core/policy/snapshot.ts";
import { preferredIndex } from "../../../src/core/service/virtual_address.ts";
import { createViewCompiler, type ViewOptions } from "../../../src/core/policy/view.ts";

const ALICE = "spiffe://d/agent/alice";
const BOB = "spiffe://d/agent/bob";
const H1 = "spiffe://d/connector/h1";
const H2 = "spiffe://d/connector/h2";
const RELAY = "spiffe://d/relay/r";

const WEB = {
  addresses: ["web.example"],
  portRanges: [{ low: 80, high: 80 }],
  protocols: ["tcp" as const],
};
const HOST = { protocol: "tcp" as const, address: "127.0.0.1", port: 8080 };
const SERVICES = { zone: "d.internal", ipv4: "10.101.0.0/16", ipv6: "fd00::/64" };

const DOCUMENT: PolicyDocument = {
  identities: [
    { name: "alice", roleAttributes: ["users"] },
    { name: "connector/h1", roleAttributes: ["hosts"] },
    { name: "connector/h2", roleAttributes: ["hosts"] },
  ],
  services: [
    { name: "web", roleAttributes: [], endToEnd: "optional", index: 99, intercept: WEB, host: HOST },
    { name: "db", roleAttributes: [], endToEnd: "required", idleTimeout: 30 },
  ],
  servicePolicies: [
    { name: "1", type: "Dial", identityRoles: ["#users"], serviceRoles: ["@web", "@db"], semantic: "AnyOf" },
    { name: "2", type: "Dial", identityRoles: ["@bob"], serviceRoles: ["@web"], semantic: "AnyOf" },
    { name: "3", type: "Bind", identityRoles: ["#hosts"], serviceRoles: ["@web"], semantic: "AnyOf" },
    { name: "4", type: "Bind", identityRoles: ["@h1"], serviceRoles: ["@db"], semantic: "AnyOf" },
  ],
};

const SNAPSHOT = compilePolicy(DOCUMENT, { trustDomain: "d" });
const OPTIONS: ViewOptions = {
  revision: 7,
  now: 1_700_000_000_999,
  ttl: 3_600_000,
  services: SERVICES,
  knownIdentities: [H2, BOB, ALICE, H1, RELAY, H1],
};

Deno.test("a dialler's view lists its services, each with who may bind it", () => {
  assert.deepEqual(createViewCompiler(SNAPSHOT, OPTIONS)(ALICE), {
    rev: 7,
    sub: ALICE,
    iat: 1_700_000_000,
    exp: 1_700_003_600,
    services: SERVICES,
    dial: [
      { service: "db", endToEnd: "required", bind: [H1], index: preferredIndex("db"), idleTimeout: 30 },
      { service: "web", endToEnd: "optional", bind: [H1, H2], index: 99, intercept: WEB },
    ],
    bind: [],
  });
});

Deno.test("a binder's view lists its services, each with who may dial it", () => {
  const view = createViewCompiler(SNAPSHOT, OPTIONS)(H1);
  assert.deepEqual(view.dial, []);
  assert.deepEqual(view.bind, [
    { service: "db", endToEnd: "required", dial: [ALICE], idleTimeout: 30 },
    { service: "web", endToEnd: "optional", dial: [ALICE, BOB], host: HOST },
  ]);
});

Deno.test("a view neither names services its subject has no right on, nor peers that are not known", () => {
  const bob = createViewCompiler(SNAPSHOT, { ...OPTIONS, knownIdentities: [H2] })(BOB);
  assert.deepEqual(bob.dial, [{
    service: "web",
    endToEnd: "optional",
    bind: [H2],
    index: 99,
    intercept: WEB,
  }]);
  assert.ok(!JSON.stringify(bob).includes("db"));
});

Deno.test("identities without rights get an empty view", () => {
  for (const id of [RELAY, "spiffe://d/agent/carol", "spiffe://e/agent/alice", ""]) {
    const view = createViewCompiler(SNAPSHOT, OPTIONS)(id);
    assert.deepEqual([view.sub, view.dial, view.bind], [id, [], []]);
  }
});

Deno.test("createViewCompiler() gives each identity the view it gets alone, in any order", () => {
  const compile = createViewCompiler(SNAPSHOT, OPTIONS);
  for (const id of [H1, ALICE, BOB, H2, RELAY, ALICE, H1]) {
    assert.deepEqual(compile(id), createViewCompiler(SNAPSHOT, OPTIONS)(id));
  }
});

Deno.test("both ends' views agree: every peer a dialler may use lists the dialler in turn", () => {
  const ids = [ALICE, BOB, H1, H2];
  const compile = createViewCompiler(SNAPSHOT, OPTIONS);
  for (const id of ids) {
    for (const { service, bind } of compile(id).dial) {
      for (const peer of bind) {
        const entry = compile(peer).bind.find((candidate) => candidate.service === service);
        assert.ok(entry?.dial.includes(id), `${peer} must know that ${id} may dial ${service}`);
      }
    }
  }
});
