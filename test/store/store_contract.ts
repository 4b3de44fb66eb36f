/** What every store does: transactions, enrolments, certificates, who hears of changes, sessions, settings. */

import assert from "node:assert/strict";
import type { Notice, Store } from "../../src/control/store.ts";
import { RESOURCE_KINDS } from "../../src/core/network/resources.ts";
import { eventually } from "../support/eventually.ts";
import {
  configSpec,
  type ContractCase,
  createAgent,
  createAgentIn,
  fact,
  NOW,
  pool,
} from "./store_ground.ts";

const DAY = 24 * 3_600_000;

/** The cases about everything but resources, addresses and audit. */
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
    name: "each controller hears a notice once, whoever announces it, until it stops listening",
    async run(ground) {
      await using first = await ground.open();
      await using second = await ground.open();
      const heard: Record<"first" | "second" | "stopped", Notice[]> = { first: [], second: [], stopped: [] };
      const isSign = (notice: Notice) => "relay" in notice && notice.relay === NOBODY;
      first.onNotice((notice) => isSign(notice) || heard.first.push(notice));
      second.onNotice(() => {
        throw new Error("a listener's own fault");
      });
      second.onNotice((notice) => isSign(notice) || heard.second.push(notice));
      second.onNotice((notice) => heard.stopped.push(notice))();
      await untilListening(first, second);
      const released = { type: "released", clientId: "ä\u0000\ud800'" } as const;
      const ended = { type: "ended", relay: "spiffe://t/relay/r", session: "r~1" } as const;
      await first.announce(released);
      await second.announce(ended);
      await untilListening(first, second);
      const byText = (notices: readonly Notice[]) => notices.map((one) => JSON.stringify(one)).sort();
      assert.deepEqual(byText(heard.first), byText([released, ended]));
      assert.deepEqual(byText(heard.second), byText([released, ended]));
      assert.deepEqual(heard.stopped, []);
    },
  },
  {
    name:
      "whoever loses addresses is announced to every controller, by release, by a full pool and by a move",
    async run(ground) {
      await using first = await ground.open();
      await using second = await ground.open();
      const heard: string[] = [];
      second.onNotice((notice) => notice.type === "released" && heard.push(notice.clientId));
      await untilListening(first, second);
      const tiny = { ...pool(), ipv4: "10.100.0.0/30" };
      await first.allocateAddress("a", tiny);
      assert.equal(await first.releaseAddress("nobody"), false);
      assert.equal(await first.releaseAddress("a"), true);
      await first.allocateAddress("b", tiny);
      await first.allocateAddress("c", { ...tiny, reclaimBefore: NOW + 1 });
      await first.allocateAddress("c", { ...pool(), ipv4: "10.101.0.0/29" });
      // Whoever keeps what it has is no news.
      await first.allocateAddress("c", { ...pool(), ipv4: "10.101.0.0/29" });
      // Longer than what PostgreSQL passes on: released all the same.
      const long = "\u{1f4a1}".repeat(2_048);
      await first.allocateAddress(long, { ...pool(), ipv4: "10.102.0.0/29" });
      assert.equal(await first.releaseAddress(long), true);
      await first.announce({ type: "released", clientId: "end" });
      await eventually(() => heard.at(-1) === "end");
      assert.deepEqual(heard, ["a", "b", "c", "end"]);
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
      const undone = first.transaction(async (tx) => {
        assert.equal(await tx.initSetting("domain", "e"), "c");
        assert.equal(await tx.initSetting("other", "x"), "x");
        throw new Error("undone");
      });
      await assert.rejects(undone, /undone/);
      assert.equal(await second.transaction((tx) => tx.initSetting("other", "y")), "y");
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

/** A relay that notices of tests are for. */
const NOBODY = "spiffe://t/relay/nobody";

/** Waits until stores hear each other, and have heard what was announced before: listening begins a moment after it was asked for. */
async function untilListening(...stores: readonly Store[]): Promise<void> {
  for (const store of stores) {
    for (const other of stores) {
      const sign = crypto.randomUUID();
      let isHeard = false;
      const stop = other.onNotice((notice) => isHeard ||= "session" in notice && notice.session === sign);
      await eventually(async () => {
        await store.announce({ type: "ended", relay: NOBODY, session: sign });
        return isHeard;
      }, { interval: 50 });
      stop();
    }
  }
}
