/** The audit chain: everything that somebody may do to a log, and what verification says to it. */

import assert from "node:assert/strict";
import fc from "fast-check";
import { chainHash, GENESIS_HASH, verifyChain } from "../../../src/core/audit/chain.ts";
import type { AuditEntry, AuditFact } from "../../../src/core/network/audit_entry.ts";

const FACT: AuditFact = {
  time: 1_700_000_000_000,
  event: "admin",
  who: "token:a",
  target: "service/web",
  outcome: "ok",
  detail: { before: null, after: { name: "web", tags: { b: 1, a: 2 } } },
  source: "controller-1",
};

const TAMPERED: Readonly<Record<string, (entry: AuditEntry) => AuditEntry>> = {
  time: (entry) => ({ ...entry, time: entry.time + 1 }),
  event: (entry) => ({ ...entry, event: "close" }),
  who: (entry) => ({ ...entry, who: "token:b" }),
  target: (entry) => ({ ...entry, target: `${entry.target}x` }),
  outcome: (entry) => ({ ...entry, outcome: "denied" }),
  source: (entry) => ({ ...entry, source: "controller-2" }),
  "a value deep in detail": (entry) => ({
    ...entry,
    detail: { before: null, after: { name: "web", tags: { b: 1, a: 3 } } },
  }),
  "a key added to detail": (entry) => ({ ...entry, detail: { ...entry.detail, extra: 1 } }),
  hash: (entry) => ({ ...entry, hash: GENESIS_HASH }),
};

for (const [what, tamper] of Object.entries(TAMPERED)) {
  Deno.test(`a changed ${what} is found at its entry`, async () => {
    const log = write(5);
    log[2] = tamper(log[2]!);
    assert.deepEqual(await verify(log), { ok: false, seq: 3, reason: "altered" });
  });
}

Deno.test("text cannot move from one field into the next", () => {
  const first = chainHash(GENESIS_HASH, { ...FACT, seq: 1, who: "a,b", target: "c" });
  assert.notEqual(first, chainHash(GENESIS_HASH, { ...FACT, seq: 1, who: "a", target: "b,c" }));
  assert.notEqual(first, chainHash(GENESIS_HASH, { ...FACT, seq: 1, who: 'a","b', target: "c" }));
});

Deno.test("an entry hashed anew after a change is found at the one behind it", async () => {
  const log = write(5);
  const forged = { ...log[2]!, who: "token:other" };
  log[2] = { ...forged, hash: chainHash(log[1]!.hash, forged) };
  assert.deepEqual(await verify(log), { ok: false, seq: 4, reason: "altered" });
});

Deno.test("an entry taken out is found, also the first one, also after numbering anew", async () => {
  assert.deepEqual(await verify(write(5).toSpliced(2, 1)), { ok: false, seq: 4, reason: "gap" });
  assert.deepEqual(await verify(write(5).slice(1)), { ok: false, seq: 2, reason: "gap" });
  const numbered = write(5).toSpliced(2, 1).map((entry, index) => ({ ...entry, seq: index + 1 }));
  assert.deepEqual(await verify(numbered), { ok: false, seq: 3, reason: "altered" });
});

Deno.test("an entry put in is found", async () => {
  const log = write(5);
  assert.deepEqual(await verify(log.toSpliced(2, 0, log[1]!)), { ok: false, seq: 2, reason: "reordered" });
});

Deno.test("entries in another order are found, within a batch and over batches", async () => {
  const [a, b, c, d] = write(4) as [AuditEntry, AuditEntry, AuditEntry, AuditEntry];
  assert.deepEqual(await verify([a, c, b, d]), { ok: false, seq: 3, reason: "reordered" });
  assert.deepEqual(await verify([a, b, d, c], 1), { ok: false, seq: 4, reason: "gap" });
  const swapped = [a, { ...c, seq: 2 }, { ...b, seq: 3 }, d];
  assert.deepEqual(await verify(swapped), { ok: false, seq: 2, reason: "altered" });
});

Deno.test("what was cut off at the end is found by a head kept elsewhere, and only by it", async () => {
  const log = write(5);
  const heads = [{ seq: 5, hash: log[4]!.hash }];
  assert.equal((await verify(log.slice(0, 3))).ok, true);
  assert.deepEqual(await verifyChain(inBatches(log.slice(0, 3)), { heads }), {
    ok: false,
    seq: 4,
    reason: "truncated",
  });
  assert.deepEqual(await verifyChain(inBatches([]), { heads }), { ok: false, seq: 1, reason: "truncated" });
  assert.equal((await verifyChain(inBatches(log), { heads })).ok, true);
});

Deno.test("a log hashed anew to its end is found by a head kept elsewhere", async () => {
  const heads = [{ seq: 4, hash: write(5)[3]!.hash.toUpperCase() }];
  assert.equal((await verifyChain(inBatches(write(5)), { heads })).ok, true);
  const forged = write(6, (seq) => seq === 2 ? { ...FACT, who: "token:other" } : FACT);
  assert.deepEqual(await verifyChain(inBatches(forged), { heads }), {
    ok: false,
    seq: 4,
    reason: "rewritten",
  });
});

Deno.test("a whole log is right, however it is read, and an empty one", async () => {
  const log = write(100);
  for (const size of [1, 7, 100, 1000]) {
    assert.deepEqual(await verify(log, size), {
      ok: true,
      entries: 100,
      lastSeq: 100,
      lastHash: log[99]!.hash,
    });
  }
  assert.deepEqual(await verify([]), { ok: true, entries: 0, lastSeq: 0, lastHash: GENESIS_HASH });
});

Deno.test("progress is told after each batch", async () => {
  const told: number[] = [];
  await verifyChain(inBatches(write(10), 4), { onProgress: (entries) => told.push(entries) });
  assert.deepEqual(told, [4, 8, 10]);
});

Deno.test("the order of keys, and what JSON leaves out, change no hash", () => {
  const one = chainHash(GENESIS_HASH, {
    ...FACT,
    seq: 1,
    detail: { a: { x: 1, y: [{ q: 1, p: 2 }] }, b: 2 },
  });
  const two = chainHash(GENESIS_HASH, {
    seq: 1,
    ...FACT,
    detail: { none: undefined, b: 2, a: { y: [{ p: 2, q: 1 }], x: 1 } },
  });
  assert.equal(one, two);
});

Deno.test("a hash survives the way through JSON, whatever detail holds", () => {
  fc.assert(fc.property(fc.dictionary(fc.string(), fc.jsonValue()), fc.string(), (detail, who) => {
    const entry = { ...FACT, seq: 1, detail, who };
    const stored = JSON.parse(JSON.stringify(entry)) as AuditEntry;
    assert.equal(chainHash(GENESIS_HASH, stored), chainHash(GENESIS_HASH, entry));
  }));
});

Deno.test("the hash of a known entry stays what it is: logs of earlier versions must verify", () => {
  assert.equal(
    chainHash(GENESIS_HASH, { ...FACT, seq: 1 }),
    "f5166890abfbfbc258acaa46f8950b2162cc3516c79b201e4c6afbb43d2f8eab",
  );
});

function write(count: number, fact: (seq: number) => AuditFact = () => FACT): AuditEntry[] {
  const log: AuditEntry[] = [];
  for (let seq = 1; seq <= count; seq++) {
    const entry = { ...fact(seq), seq };
    log.push({ ...entry, hash: chainHash(log.at(-1)?.hash ?? GENESIS_HASH, entry) });
  }
  return log;
}

function verify(log: readonly AuditEntry[], size = 1000) {
  return verifyChain(inBatches(log, size));
}

async function* inBatches(log: readonly AuditEntry[], size = 1000): AsyncGenerator<readonly AuditEntry[]> {
  for (let start = 0; start < log.length; start += size) {
    yield await Promise.resolve(log.slice(start, start + size));
  }
}
