/** What every store does with resources: writes, lists, changes. */

import assert from "node:assert/strict";
import type { ListQuery } from "../../src/core/network/listing.ts";
import { RESOURCE_KINDS } from "../../src/core/network/resources.ts";
import {
  agentSpec,
  configSpec,
  type ContractCase,
  createAgent,
  createAgentIn,
  egressSpec,
  NOW,
  serviceSpec,
} from "./store_ground.ts";

const DAY = 24 * 3_600_000;

/** The cases about resources. */
export const RESOURCE_CONTRACT: readonly ContractCase[] = [
  {
    name: "of two controllers that take one name at once, one gets it",
    async run(ground) {
      await using first = await ground.open();
      await using second = await ground.open();
      const made = await Promise.all(
        [first, second].map((store) =>
          store.transaction((tx) => tx.create("service", { name: "a", spec: serviceSpec() }))
        ),
      );
      assert.deepEqual(made.map(({ ok }) => ok).sort(), [false, true]);
    },
  },
  {
    name: "a write is refused when the name is taken, the resource gone or changed",
    async run(ground) {
      await using store = await ground.open();
      const alice = await createAgent(store, "alice");
      const bob = await createAgent(store, "bob");
      await store.transaction(async (tx) => {
        const exists = { ok: false, fault: "exists" };
        assert.deepEqual(await tx.create("identity", { name: "alice", spec: agentSpec("other") }), exists);
        assert.deepEqual(await tx.create("identity", { name: "other", spec: agentSpec("alice") }), exists);
        const spec = bob.spec;
        assert.deepEqual(await tx.update("identity", bob.id, { name: "alice", spec }), exists);
        assert.deepEqual(await tx.update("identity", bob.id, { spec: alice.spec }), exists);
        const missing = { ok: false, fault: "missing" };
        assert.deepEqual(await tx.update("identity", "nobody", { spec }), missing);
        assert.deepEqual(await tx.remove("identity", "nobody"), missing);
        const changed = { ok: false, fault: "changed" };
        assert.deepEqual(await tx.update("identity", bob.id, { spec, ifRevision: alice.revision }), changed);
        assert.deepEqual(await tx.remove("identity", bob.id, { ifRevision: bob.revision + 1 }), changed);
      });
      assert.equal(await store.revision(), 2);
      // Another type may have the name.
      await createAgent(store, "bob", { type: "user", spiffeId: "spiffe://example.internal/user/bob" });
      const updated = await store.transaction((tx) =>
        tx.update("identity", bob.id, { name: "robert", spec: bob.spec, ifRevision: bob.revision })
      );
      assert.ok(updated.ok);
      assert.deepEqual({ ...updated.value, updatedAt: 0 }, {
        ...bob,
        name: "robert",
        revision: 4,
        updatedAt: 0,
      });
      assert.deepEqual(await store.get("identity", bob.id), updated.value);
      const removed = await store.transaction((tx) => tx.remove("identity", bob.id, { ifRevision: 4 }));
      assert.deepEqual(removed, updated);
      assert.equal(await store.get("identity", bob.id), undefined);
    },
  },
  {
    name: "resources are found by name, identities by SPIFFE ID",
    async run(ground) {
      await using store = await ground.open();
      const alice = await createAgent(store, "alice");
      const service = await store.transaction((tx) =>
        tx.create("service", { name: "alice", spec: serviceSpec() })
      );
      assert.ok(service.ok);
      assert.deepEqual(await store.find("identity", "alice"), alice);
      assert.deepEqual(await store.find("identity", alice.spec.spiffeId), alice);
      assert.deepEqual(await store.find("service", "alice"), service.value);
      assert.equal(await store.find("service", alice.spec.spiffeId), undefined);
      assert.equal(await store.find("identity", "ALICE"), undefined);
    },
  },
  {
    name: "lists are ordered by name and come in pages without doubles or gaps",
    async run(ground) {
      await using store = await ground.open();
      const names = ["b", "B", "a-1", "a_1", "a.1", "ä", "Z", "10", "9", "aa"];
      await store.transaction(async (tx) => {
        for (const name of names) await tx.create("service", { name, spec: serviceSpec() });
      });
      const found: string[] = [];
      let cursor: string | undefined;
      do {
        const page = await store.list("service", { limit: 3, ...(cursor === undefined ? {} : { cursor }) });
        assert.equal(page.total, names.length);
        assert.ok(page.items.length <= 3);
        found.push(...page.items.map(({ name }) => name));
        cursor = page.cursor ?? undefined;
      } while (cursor !== undefined);
      assert.deepEqual(found, [...names].sort());
      assert.deepEqual((await store.list("service", { limit: 10 })).cursor, null);
    },
  },
  {
    name: "lists filter by text, name, values and attribute",
    async run(ground) {
      await using store = await ground.open();
      await store.transaction(async (tx) => {
        await createAgentIn(tx, "Alice_1", {
          roleAttributes: ["dev", 'quo"te'],
          externalId: "https://idp|1",
        });
        await createAgentIn(tx, "aliceX1", { derivedAttributes: ["dev"], disabled: true });
        await createAgentIn(tx, "bob", { roleAttributes: ["developers"], adminRole: "viewer" });
      });
      const names = async (query: Omit<ListQuery, "limit">) => {
        const page = await store.list("identity", { limit: 100, ...query });
        assert.equal(page.total, page.items.length);
        return page.items.map(({ name }) => name);
      };
      assert.deepEqual(await names({ search: "LICE" }), ["Alice_1", "aliceX1"]);
      assert.deepEqual(await names({ search: "e_1" }), ["Alice_1"]);
      assert.deepEqual(await names({ search: "%" }), []);
      assert.deepEqual(await names({ search: "\\" }), []);
      assert.deepEqual(await names({ name: "bob" }), ["bob"]);
      assert.deepEqual(await names({ name: "bo" }), []);
      assert.deepEqual(await names({ roleAttribute: "dev" }), ["Alice_1", "aliceX1"]);
      assert.deepEqual(await names({ roleAttribute: 'quo"te' }), ["Alice_1"]);
      assert.deepEqual(await names({ where: { externalId: "https://idp|1" } }), ["Alice_1"]);
      assert.deepEqual(await names({ where: { disabled: true } }), ["aliceX1"]);
      assert.deepEqual(await names({ where: { disabled: "true" } }), []);
      assert.deepEqual(await names({ where: { disabled: false, adminRole: "viewer" } }), ["bob"]);
      assert.deepEqual(await names({ where: { disabled: false }, roleAttribute: "dev", search: "a" }), [
        "Alice_1",
      ]);
      assert.deepEqual(await names({ where: { unknown: 1 } }), []);
    },
  },
  {
    name: "a list refuses a cursor it did not give and a filter that is no field's name",
    async run(ground) {
      await using store = await ground.open();
      for (const cursor of ["x", "bnVsbA", "WzFd", "WyJhIiwxXQ", "A".repeat(100_000)]) {
        await assert.rejects(store.list("service", { limit: 1, cursor }), { code: "ERR_CURSOR" });
      }
      for (const key of ["a'b", "a') OR 1=1 --", "", "a.b", "a b"]) {
        await assert.rejects(store.list("service", { limit: 1, where: { [key]: 1 } }), RangeError);
      }
    },
  },
  {
    name: "changes name each resource once, as it is now or gone, by its last change",
    async run(ground) {
      await using store = await ground.open();
      const alice = await createAgent(store, "alice");
      const bob = await createAgent(store, "bob");
      const carol = await createAgent(store, "carol");
      await store.transaction(async (tx) => {
        await tx.update("identity", alice.id, { spec: agentSpec("alice", { disabled: true }) });
        await tx.remove("identity", bob.id);
      });
      const all = await store.changesSince(0);
      assert.equal(all?.revision, 4);
      assert.deepEqual(all.changes.map(({ id }) => id).slice(0, 1), [carol.id]);
      const later = await store.changesSince(3);
      assert.deepEqual(
        new Map(later?.changes.map(({ id, resource }) => [id, resource])),
        new Map([[alice.id, await store.get("identity", alice.id)], [bob.id, null]]),
      );
      assert.deepEqual(await store.changesSince(4), { revision: 4, changes: [] });
      // A database put back to an earlier state knows less than its followers.
      assert.equal(await store.changesSince(5), undefined);
    },
  },
  {
    name: "old changes are forgotten, and who needs them is told to read all",
    async run(ground) {
      await using store = await ground.open();
      await createAgent(store, "alice");
      await createAgent(store, "bob");
      await store.prune(Date.now() + 2 * DAY);
      assert.equal(await store.changesSince(1), undefined);
      assert.deepEqual(await store.changesSince(2), { revision: 2, changes: [] });
      const { revision, resources } = await store.readAll(["identity", "service"]);
      assert.deepEqual([revision, resources.map(({ name }) => name)], [2, ["alice", "bob"]]);
      await createAgent(store, "carol");
      assert.equal((await store.changesSince(2))?.changes.length, 1);
    },
  },
  {
    name: "every kind of resource keeps its content, whatever text is in it",
    async run(ground) {
      await using store = await ground.open();
      const text = "\u0001\"'\\$1?{}💡ä\u2028";
      const specs = {
        "identity": agentSpec("alice", { tags: { [text]: [text, 1.5, null, { a: true }] } }),
        "service": serviceSpec({ tags: { text } }),
        "config": configSpec({ data: { portRanges: [{ low: 1, high: 65535 }] } }),
        "service-policy": {
          type: "Dial",
          semantic: "AnyOf",
          identityRoles: ["#a"],
          serviceRoles: ["@b"],
          tags: {},
        },
        "egress-policy": egressSpec({ version: "1.0", clients: {} }, { description: text }),
        "trust-domain": {
          roots: ["PEM"],
          rules: [{ path: "/a/**", roleAttributes: ["x"] }],
          disabled: false,
        },
        "auth-provider": {
          issuer: "https://idp.example",
          clientId: "ginnel",
          scopes: ["openid"],
          nameClaim: "email",
          rules: [],
          requireMatch: true,
          disabled: false,
        },
        "api-token": { role: "viewer", secretHash: "00", expiresAt: NOW, scopes: [], bootstrap: false },
      } as const;
      for (const kind of RESOURCE_KINDS) {
        const spec = specs[kind] as never;
        const created = await store.transaction((tx) => tx.create(kind, { name: "one", spec }));
        assert.ok(created.ok);
        assert.deepEqual((await store.get(kind, created.value.id))?.spec, spec);
      }
      assert.equal((await store.readAll(RESOURCE_KINDS)).resources.length, RESOURCE_KINDS.length);
    },
  },
  {
    name: "text that a database cannot hold is replaced, not refused",
    async run(ground) {
      await using store = await ground.open();
      const created = await store.transaction((tx) =>
        tx.create("service", {
          name: "a\0b\ud800",
          spec: serviceSpec({ tags: { "k\0": ["\\u0000", "\0\udc00"] } }),
        })
      );
      assert.ok(created.ok);
      assert.equal(created.value.name, "a\ufffdb\ufffd");
      assert.deepEqual(created.value.spec.tags, { "k\ufffd": ["\\u0000", "\ufffd\ufffd"] });
    },
  },
  {
    name: "an egress policy keeps the order of its clients, and its rules stand in rows",
    async run(ground) {
      await using store = await ground.open();
      const rule = (id: string) => ({ id, type: "default", action: "allow" });
      const document = {
        default_action: "deny",
        clients: {
          "#zz": { rules: [rule("1"), rule("2")] },
          "#b": { rules: [] },
          "agent/alice": { rules: [rule("3")] },
        },
      };
      const { id } = await store.transaction(async (tx) => {
        const created = await tx.create("egress-policy", {
          name: "main",
          spec: egressSpec(document, { active: true }),
        });
        assert.ok(created.ok);
        return created.value;
      });
      const kept = (await store.get("egress-policy", id))!.spec.document["clients"];
      assert.deepEqual(Object.keys(kept as object), ["#zz", "#b", "agent/alice"]);
      // A statement that fails unless the rows are these.
      const count = "(SELECT count(*) FROM policy_rules WHERE client_id = '#zz' AND position = 1)";
      await ground.execute(`INSERT INTO settings VALUES ('rules', CASE ${count} WHEN 1 THEN 'right' END)`);
      assert.equal(await store.getSetting("rules"), "right");
      await store.transaction((tx) => tx.remove("egress-policy", id));
      const left = "(SELECT count(*) FROM policy_rules)";
      await ground.execute(`INSERT INTO settings VALUES ('left', CASE ${left} WHEN 0 THEN 'none' END)`);
      assert.equal(await store.getSetting("left"), "none");
    },
  },
];
