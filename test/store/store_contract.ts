/** What every store does: resources, transactions, changes, enrolments, certificates, sessions, settings. */

import assert from "node:assert/strict";
import type { ListQuery, Store } from "../../src/control/store.ts";
import { RESOURCE_KINDS } from "../../src/core/network/resources.ts";
import { eventually } from "../support/eventually.ts";
import {
  agentSpec,
  configSpec,
  type ContractCase,
  createAgent,
  createAgentIn,
  egressSpec,
  fact,
  NOW,
  serviceSpec,
} from "./store_ground.ts";

const DAY = 24 * 3_600_000;

/** The cases about everything but addresses and audit. */
export const STORE_CONTRACT: readonly ContractCase[] = [
  {
    name: "of two controllers that use one enrolment at once, one gets it",
    async run(ground) {
      await using first = await ground.open();
      await using second = await ground.open();
      const { id: identityId } = await createAgent(first, "alice");
      for (let round = 0; round < 10; round++) {
        const id = `enrolment-${round}`;
        await first.transaction((tx) =>
          tx.addEnrolment({ id, identityId, createdAt: NOW, expiresAt: NOW + DAY, usedAt: null })
        );
        const uses = await Promise.all(
          [first, second, first, second].map((store) =>
            store.transaction((tx) => tx.useEnrolment(id, NOW + 1))
          ),
        );
        assert.equal(uses.filter((use) => use !== undefined).length, 1);
      }
    },
  },
  {
    name: "of two controllers that name something once at once, one is first",
    async run(ground) {
      await using first = await ground.open();
      await using second = await ground.open();
      for (let round = 0; round < 10; round++) {
        const firsts = await Promise.all(
          [first, second, first, second].map((store) =>
            store.transaction((tx) => tx.once(`batch-${round}`, NOW + DAY))
          ),
        );
        assert.equal(firsts.filter(Boolean).length, 1);
      }
    },
  },
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
    name: "an expired, used or unknown enrolment is not used",
    async run(ground) {
      await using store = await ground.open();
      const { id: identityId } = await createAgent(store, "alice");
      await store.transaction(async (tx) => {
        const enrolment = { identityId, createdAt: NOW, expiresAt: NOW + 10, usedAt: null };
        await tx.addEnrolment({ ...enrolment, id: "expires" });
        await tx.addEnrolment({ ...enrolment, id: "used", usedAt: NOW });
        assert.equal(await tx.useEnrolment("expires", NOW + 10), undefined);
        assert.equal(await tx.useEnrolment("used", NOW + 1), undefined);
        assert.equal(await tx.useEnrolment("unknown", NOW + 1), undefined);
        assert.deepEqual(await tx.useEnrolment("expires", NOW + 9), {
          ...enrolment,
          id: "expires",
          usedAt: NOW + 9,
        });
        assert.equal(await tx.useEnrolment("expires", NOW + 9), undefined);
      });
      assert.deepEqual((await store.enrolments(identityId)).map(({ id }) => id), ["expires", "used"]);
      assert.equal(await store.transaction((tx) => tx.removeEnrolments(identityId)), 2);
      assert.deepEqual(await store.enrolments(identityId), []);
    },
  },
  {
    name: "nobody outside a transaction sees what it has not committed",
    async run(ground) {
      await using first = await ground.open();
      await using second = await ground.open();
      await first.transaction(async (tx) => {
        const { id } = await createAgentIn(tx, "alice");
        assert.equal((await tx.get("identity", id))?.name, "alice");
        for (const store of [first, second]) {
          assert.equal(await store.get("identity", id), undefined);
          assert.equal((await store.list("identity", { limit: 1 })).total, 0);
          assert.equal(await store.revision(), 0);
        }
      });
      assert.equal((await second.list("identity", { limit: 1 })).total, 1);
    },
  },
  {
    name: "a transaction that throws leaves nothing",
    async run(ground) {
      await using store = await ground.open();
      await createAgent(store, "alice");
      const before = await dump(store);
      await assert.rejects(
        store.transaction(async (tx) => {
          const bob = await createAgentIn(tx, "bob");
          await tx.addEnrolment({
            id: "e",
            identityId: bob.id,
            createdAt: NOW,
            expiresAt: NOW + 1,
            usedAt: null,
          });
          await tx.audit(fact());
          await tx.once("key", NOW + DAY);
          throw new Error("changed my mind");
        }),
        /changed my mind/,
      );
      assert.deepEqual(await dump(store), before);
      assert.equal(await store.transaction((tx) => tx.once("key", NOW + DAY)), true);
      assert.equal(await createAgent(store, "bob").then(({ revision }) => revision), 2);
    },
  },
  {
    name: "transactions of two controllers come one after another: none loses another's change",
    async run(ground) {
      await using first = await ground.open();
      await using second = await ground.open();
      const { id } = await first.transaction(async (tx) => {
        const created = await tx.create("config", {
          name: "counter",
          spec: configSpec({ data: { count: 0 } }),
        });
        assert.ok(created.ok);
        return created.value;
      });
      const add = (store: Store) =>
        store.transaction(async (tx) => {
          const { data } = (await tx.get("config", id))!.spec;
          await tx.update("config", id, { spec: configSpec({ data: { count: Number(data["count"]) + 1 } }) });
        });
      await Promise.all(Array.from({ length: 20 }, (_, i) => add(i % 2 === 0 ? first : second)));
      assert.deepEqual((await first.get("config", id))?.spec.data, { count: 20 });
      assert.equal(await first.revision(), 21);
    },
  },
  {
    name: "revisions have no gaps, and who follows changes misses none",
    async run(ground) {
      await using first = await ground.open();
      await using second = await ground.open();
      const seen = new Map<string, number>();
      let known = 0;
      const follow = async () => {
        const since = known;
        const answer = await second.changesSince(since);
        assert.ok(answer);
        for (const { id, resource } of answer.changes) {
          assert.ok(resource !== null && resource.revision > since && resource.revision <= answer.revision);
          seen.set(id, resource.revision);
        }
        known = Math.max(known, answer.revision);
      };
      const writes = Array.from({ length: 30 }, async (_, i) => {
        const store = i % 2 === 0 ? first : second;
        if (i % 5 === 0) await store.transaction((tx) => tx.audit(fact()));
        else await createAgent(store, `agent-${i}`);
        await follow();
      });
      await Promise.all(writes);
      await follow();
      assert.equal(known, 24);
      assert.deepEqual([...seen.values()].sort((a, b) => a - b), Array.from({ length: 24 }, (_, i) => i + 1));
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
    name: "each controller hears of changes, its own and others', until it stops listening",
    async run(ground) {
      await using first = await ground.open();
      await using second = await ground.open();
      const heard = { first: 0, second: 0, stopped: 0 };
      first.onChange(() => heard.first++);
      second.onChange(() => heard.second++);
      second.onChange(() => {
        throw new Error("a listener's own fault");
      });
      second.onChange(() => heard.stopped++)();
      await eventually(async () => {
        await createAgent(first, crypto.randomUUID());
        return heard.second > 0;
      });
      const before = { ...heard };
      await createAgent(first, "alice");
      await eventually(() => heard.first > before.first && heard.second > before.second);
      assert.equal(heard.stopped, 0);
    },
  },
  {
    name: "revoked certificates are listed until they expire, and followers get a new revision",
    async run(ground) {
      await using store = await ground.open();
      const { id: identityId, spec: { spiffeId } } = await createAgent(store, "alice");
      const certificate = {
        identityId,
        spiffeId,
        issuedAt: NOW,
        notAfter: NOW + DAY,
        issuer: "ca",
        revokedAt: null,
      };
      await store.transaction(async (tx) => {
        await tx.addCertificate({ ...certificate, serial: "0A" });
        await tx.addCertificate({ ...certificate, serial: "0B", issuedAt: NOW + 1, notAfter: NOW + 2 * DAY });
        await tx.addCertificate({ ...certificate, serial: "0C", issuedAt: NOW - DAY, notAfter: NOW });
      });
      assert.equal(await store.revision(), 1);
      assert.deepEqual((await store.certificates(identityId)).map(({ serial }) => serial), [
        "0C",
        "0A",
        "0B",
      ]);
      const revoke = (which: { serial: string } | { identityId: string }) =>
        store.transaction((tx) => tx.revokeCertificates(which, NOW));
      assert.deepEqual(await revoke({ serial: "FF" }), []);
      assert.equal(await store.revision(), 1);
      assert.deepEqual(await revoke({ serial: "0A" }), ["0A"]);
      assert.deepEqual(await revoke({ identityId }), ["0B"]);
      assert.deepEqual(await revoke({ identityId }), []);
      assert.equal(await store.revision(), 3);
      assert.deepEqual(await store.changesSince(1), { revision: 3, changes: [] });
      assert.deepEqual(await store.certificate("0A"), { ...certificate, serial: "0A", revokedAt: NOW });
      assert.equal(await store.certificate("FF"), undefined);
      assert.deepEqual(await store.revokedSerials(NOW), ["0A", "0B"]);
      assert.deepEqual(await store.revokedSerials(NOW + DAY), ["0B"]);
      // They outlive their identity.
      await store.transaction((tx) => tx.remove("identity", identityId));
      assert.deepEqual(await store.revokedSerials(NOW), ["0A", "0B"]);
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
  {
    name: "sessions are replaced, listed newest first, closed once, and closed for a relay that died",
    async run(ground) {
      await using store = await ground.open();
      const session = (id: string, openedAt: number) => ({
        id,
        relay: "relay-1",
        identity: `agent-${id}`,
        kind: "agent" as const,
        remote: "192.0.2.1:1",
        services: ["a"],
        openedAt,
        lastSeenAt: openedAt,
        closedAt: null,
      });
      const [a, b, c] = [session("a", NOW), session("b", NOW + 1), session("c", NOW + 1)];
      await store.putSessions([]);
      await store.putSessions([a, b, { ...c, relay: "relay-2" }, { ...a, remote: "192.0.2.2:2" }]);
      await store.putSessions([{ ...b, closedAt: NOW + 5 }]);
      // A report that comes late does not open it again.
      await store.putSessions([{ ...b, lastSeenAt: NOW + 2 }]);
      const ids = async (query: Partial<Parameters<Store["sessions"]>[0]>) => {
        const page = await store.sessions({ limit: 10, ...query });
        assert.equal(page.total, page.items.length);
        return page.items.map(({ id }) => id);
      };
      assert.deepEqual(await ids({}), ["c", "b", "a"]);
      assert.deepEqual(await ids({ open: true }), ["c", "a"]);
      assert.deepEqual(await ids({ open: false }), ["b"]);
      assert.deepEqual(await ids({ relay: "relay-1", open: true }), ["a"]);
      assert.deepEqual(await ids({ identity: "agent-c" }), ["c"]);
      const first = await store.sessions({ limit: 2 });
      const second = await store.sessions({ limit: 2, cursor: first.cursor! });
      assert.deepEqual([...first.items, ...second.items].map(({ id }) => id), ["c", "b", "a"]);
      assert.deepEqual(second.items[0], { ...a, remote: "192.0.2.2:2" });
      assert.equal(await store.closeSessions("relay-1", NOW + 9), 1);
      assert.equal(await store.closeSessions("relay-1", NOW + 9), 0);
      assert.deepEqual(await ids({ open: true }), ["c"]);
    },
  },
  {
    name: "a relay's last report is kept",
    async run(ground) {
      await using store = await ground.open();
      const status = { identity: "relay-1", revision: 1, version: "0.1.0", sessions: 2, lastSeenAt: NOW };
      await store.putRelay(status);
      await store.putRelay({ ...status, revision: 7, lastSeenAt: NOW + 1 });
      assert.deepEqual(await store.relays(), [{ ...status, revision: 7, lastSeenAt: NOW + 1 }]);
    },
  },
  {
    name: "of two controllers that first set a setting at once, both get the same",
    async run(ground) {
      await using first = await ground.open();
      await using second = await ground.open();
      assert.equal(await first.getSetting("domain"), undefined);
      const values = await Promise.all([first.initSetting("domain", "a"), second.initSetting("domain", "b")]);
      assert.equal(values[0], values[1]);
      assert.equal(await second.getSetting("domain"), values[0]);
      await second.setSetting("domain", "c");
      assert.equal(await first.initSetting("domain", "d"), "c");
    },
  },
  {
    name: "pruning removes what is over and nothing else",
    async run(ground) {
      await using store = await ground.open();
      const { id: identityId, spec: { spiffeId } } = await createAgent(store, "alice");
      await store.transaction(async (tx) => {
        for (const [id, expiresAt] of [["old", NOW - 1], ["new", NOW + 1]] as const) {
          await tx.addEnrolment({ id, identityId, createdAt: 0, expiresAt, usedAt: null });
          await tx.addCertificate({
            ...{ serial: id, identityId, spiffeId, issuedAt: 0, notAfter: expiresAt, issuer: "ca" },
            revokedAt: null,
          });
          await tx.once(id, expiresAt);
        }
        await tx.audit(fact());
      });
      await store.prune(NOW);
      assert.deepEqual((await store.enrolments(identityId)).map(({ id }) => id), ["new"]);
      assert.deepEqual((await store.certificates(identityId)).map(({ serial }) => serial), ["new"]);
      assert.equal(await store.transaction((tx) => tx.once("new", NOW + 1)), false);
      assert.equal(await store.transaction((tx) => tx.once("old", NOW + 1)), true);
      assert.equal((await store.queryAudit({ limit: 10 })).length, 1);
    },
  },
  {
    name: "a write of its own within a transaction is refused, since it could only wait for itself",
    async run(ground) {
      await using store = await ground.open();
      await store.transaction(async () => {
        const nested = { code: "ERR_STORE_NESTED" };
        await assert.rejects(store.transaction(() => Promise.resolve()), nested);
        await assert.rejects(store.appendAudit([fact()]), nested);
        await assert.rejects(store.releaseAddress("a"), nested);
        await assert.rejects(store.setSetting("a", "b"), nested);
      });
      await store.appendAudit([fact()]);
    },
  },
  {
    name: "what was stored is there when it is opened again",
    async run(ground) {
      const before = await (async () => {
        await using store = await ground.open();
        await createAgent(store, "alice");
        await store.appendAudit([fact()]);
        await store.ping();
        return await dump(store);
      })();
      await using store = await ground.open();
      assert.deepEqual(await dump(store), before);
    },
  },
  {
    name: "a closed store refuses work",
    async run(ground) {
      const store = await ground.open();
      await store[Symbol.asyncDispose]();
      await store[Symbol.asyncDispose]();
      await assert.rejects(store.ping());
      await assert.rejects(createAgent(store, "alice"));
    },
  },
];

/** Everything that can be read of a network. */
async function dump(store: Store): Promise<unknown> {
  return {
    all: await store.readAll(RESOURCE_KINDS),
    changes: await store.changesSince(0),
    audit: await store.queryAudit({ limit: 1_000 }),
    addresses: await store.addresses({ limit: 500 }),
  };
}
