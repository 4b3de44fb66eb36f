/** What every store does with the audit log. */

import assert from "node:assert/strict";
import { verifyChain } from "../../src/core/audit/chain.ts";
import type { AuditQuery } from "../../src/core/network/audit_entry.ts";
import { type ContractCase, createAgent, fact, NOW } from "./store_ground.ts";

/** The cases about the audit log. */
export const AUDIT_CONTRACT: readonly ContractCase[] = [
  {
    name: "the database refuses to change or remove entries of the audit log",
    async run(ground) {
      await using store = await ground.open();
      await store.appendAudit([fact()]);
      for (const statement of ["UPDATE audit SET outcome = 'denied'", "DELETE FROM audit"]) {
        await assert.rejects(ground.execute(statement), /append-only/);
      }
      assert.equal((await store.queryAudit({ limit: 10 })).length, 1);
    },
  },
  {
    name: "a log that somebody changed all the same does not verify",
    async run(ground) {
      await using store = await ground.open();
      await store.appendAudit([fact(), fact(), fact()]);
      assert.equal((await verifyChain(store.readAudit())).ok, true);
      await ground.execute(
        "INSERT INTO audit SELECT 4, time, event, who, target, outcome, detail, source, hash FROM audit WHERE seq = 3",
      );
      assert.deepEqual(await verifyChain(store.readAudit()), { ok: false, seq: 4, reason: "altered" });
    },
  },
  {
    name: "entries of two controllers, by transactions and without, make one chain without gaps",
    async run(ground) {
      await using first = await ground.open();
      await using second = await ground.open();
      await Promise.all(Array.from({ length: 24 }, async (_, i) => {
        const store = i % 2 === 0 ? first : second;
        const facts = [fact({ who: `${i}`, target: "1" }), fact({ who: `${i}`, target: "2" })];
        if (i % 3 > 0) await store.appendAudit(facts);
        else await store.transaction(async (tx) => void await Promise.all(facts.map((one) => tx.audit(one))));
      }));
      const verdict = await verifyChain(first.readAudit());
      assert.ok(verdict.ok);
      assert.equal(verdict.lastSeq, 48);
      const entries = await second.queryAudit({ limit: 100 });
      assert.deepEqual(entries.map(({ seq }) => seq), Array.from({ length: 48 }, (_, i) => 48 - i));
      // What came together stays together, in order.
      for (let i = 0; i < 48; i += 2) {
        assert.deepEqual([entries[i]!.target, entries[i + 1]!.target], ["2", "1"]);
        assert.equal(entries[i]!.who, entries[i + 1]!.who);
      }
    },
  },
  {
    name: "the chain holds whatever a fact contains",
    async run(ground) {
      await using store = await ground.open();
      await store.appendAudit([
        fact({ who: "a\0b", target: "\ud800", outcome: "", source: "💡\\u0000" }),
        fact({
          detail: {
            "k\0": "\0\ud800",
            n: 1e300,
            small: 5e-324,
            not: Number.NaN,
            gone: undefined,
            z: 1,
            a: 2,
          },
        }),
        fact({
          detail: { when: new Date(NOW), nested: { b: [1, { d: 1, c: 2 }], a: null }, "__proto__x": 1 },
        }),
        fact({ time: NOW + 0.75 }),
        fact({ time: Number.MAX_VALUE }),
        fact({ time: -1 }),
        fact({ detail: Object.fromEntries(Array.from({ length: 5_000 }, (_, i) => [`k${i}`, i])) }),
      ]);
      const verdict = await verifyChain(store.readAudit());
      assert.deepEqual([verdict.ok, verdict.ok && verdict.entries], [true, 7]);
      const [, , last, , , second, first] = await store.queryAudit({ limit: 10 });
      assert.deepEqual([first?.who, first?.target], ["a\ufffdb", "\ufffd"]);
      assert.equal(second?.detail["k\0"], "\0\ud800");
      assert.equal(last?.time, 253_402_300_799_999);
    },
  },
  {
    name: "queries return the newest first and meet every condition",
    async run(ground) {
      await using store = await ground.open();
      await store.appendAudit([
        fact({ time: NOW, who: "alice" }),
        fact({ time: NOW + 1, who: "alice", event: "deny", outcome: "denied" }),
        fact({ time: NOW + 2, who: "bob", target: "ssh" }),
        fact({ time: NOW + 3, who: "bob", event: "close", outcome: "closed" }),
      ]);
      const seqs = async (query: Partial<AuditQuery>) =>
        (await store.queryAudit({ limit: 10, ...query })).map(({ seq }) => seq);
      assert.deepEqual(await seqs({}), [4, 3, 2, 1]);
      assert.deepEqual(await seqs({ limit: 2 }), [4, 3]);
      assert.deepEqual(await seqs({ limit: 2, before: 3 }), [2, 1]);
      assert.deepEqual(await seqs({ from: NOW + 1, to: NOW + 3 }), [3, 2]);
      assert.deepEqual(await seqs({ who: "bob" }), [4, 3]);
      assert.deepEqual(await seqs({ who: "bob", target: "ssh" }), [3]);
      assert.deepEqual(await seqs({ outcome: "denied" }), [2]);
      assert.deepEqual(await seqs({ event: "close" }), [4]);
      assert.deepEqual(await seqs({ who: "bob\0" }), []);
    },
  },
  {
    name: "the whole log is read in order, from any entry, in batches",
    async run(ground) {
      await using store = await ground.open();
      await createAgent(store, "alice");
      await store.appendAudit(Array.from({ length: 2_500 }, (_, i) => fact({ target: `${i}` })));
      const batches = await Array.fromAsync(store.readAudit());
      assert.ok(batches.length > 1);
      assert.deepEqual(batches.flat().map(({ seq }) => seq), Array.from({ length: 2_500 }, (_, i) => i + 1));
      const rest = (await Array.fromAsync(store.readAudit({ from: 2_499 }))).flat();
      assert.deepEqual(rest.map(({ target }) => target), ["2498", "2499"]);
      await store.appendAudit([]);
    },
  },
];
