/** Which names and attributes a SPIFFE ID has in a policy document. */

import assert from "node:assert/strict";
import { IdentityIndex } from "../../../src/core/policy/identity_index.ts";

const ALICE = "spiffe://d/agent/alice";

Deno.test("find() names an identity of the network by id, kind/name and name", () => {
  const index = new IdentityIndex([], { trustDomain: "d" });
  assert.deepEqual(index.find(ALICE), {
    names: [ALICE, "agent/alice", "alice"],
    attributes: [],
    inAll: true,
  });
});

Deno.test("find() gives an identity of another domain its id only", () => {
  const index = new IdentityIndex([{ name: "alice", roleAttributes: ["x"] }], { trustDomain: "d" });
  assert.deepEqual(index.find("spiffe://e/agent/alice"), {
    names: ["spiffe://e/agent/alice"],
    attributes: [],
    inAll: false,
  });
});

Deno.test("find() knows no relay, of whatever domain, declared or not", () => {
  const id = "spiffe://d/relay/r1";
  const index = new IdentityIndex(
    [{ id, roleAttributes: ["x"] }, { name: "r1", roleAttributes: ["x"] }],
    { trustDomain: "d" },
  );
  assert.equal(index.find(id), undefined);
  assert.equal(index.find("spiffe://e/relay/r1"), undefined);
});

Deno.test("find() treats IDs that are not exactly of the network's form as strangers", () => {
  const index = new IdentityIndex([{ name: "alice", roleAttributes: ["x"] }], { trustDomain: "d" });
  for (
    const id of [
      `${ALICE}/`,
      `${ALICE}\n`,
      ` ${ALICE}`,
      "SPIFFE://d/agent/alice",
      "spiffe://D/agent/alice",
      "spiffe://d/agents/alice",
      "spiffe://d//alice",
      "spiffe://d/agent/al%69ce",
      "spiffe://d@d/agent/alice",
      "spiffe://d:443/agent/alice",
      `spiffe://d/agent/${"a".repeat(64)}`,
    ]
  ) {
    assert.deepEqual(index.find(id), { names: [id], attributes: [], inAll: false }, id);
  }
});

Deno.test("a nickname with an id takes the name away from certificates of that name", () => {
  const index = new IdentityIndex(
    [{ name: "alice", id: "spiffe://d/user/a.smith", roleAttributes: ["x"] }],
    { trustDomain: "d" },
  );
  assert.deepEqual(index.find(ALICE), { names: [ALICE, "agent/alice"], attributes: [], inAll: true });
  assert.deepEqual(index.find("spiffe://d/user/a.smith"), {
    names: ["spiffe://d/user/a.smith", "alice", "user/a.smith", "a.smith"],
    attributes: [["x"]],
    inAll: true,
  });
  assert.ok(index.declares("alice"));
  assert.ok(index.declares("spiffe://d/user/a.smith"));
  assert.ok(!index.declares("a.smith"));
});

Deno.test("a user whom a provider named like a connector is not that connector", () => {
  const user = "spiffe://d/user/records-host";
  const connector = "spiffe://d/connector/records-host";
  const entries = [user, connector].map((id) => ({ id, roleAttributes: [] }));
  const index = new IdentityIndex(entries, { trustDomain: "d", declaredOnly: true });
  assert.deepEqual(index.find(user)?.names, [user, "user/records-host"]);
  assert.deepEqual(index.find(connector)?.names, [connector, "connector/records-host", "records-host"]);
});

Deno.test("entries with neither name nor id declare nothing", () => {
  const index = new IdentityIndex([{ roleAttributes: ["x"] }], { trustDomain: "d" });
  assert.deepEqual(index.find(ALICE)?.attributes, []);
  assert.ok(!index.declares("undefined"));
});

Deno.test("a nickname that reads as another identity's path takes that path away too", () => {
  const index = new IdentityIndex([{
    name: "agent/alice",
    id: "spiffe://d/user/mallory",
    roleAttributes: [],
  }], { trustDomain: "d" });
  assert.deepEqual(index.find(ALICE)?.names, [ALICE, "alice"]);
});
