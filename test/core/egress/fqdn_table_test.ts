/** Names learned from DNS: only those asked about, for as long as their TTL, never more than the bound. */

import assert from "node:assert/strict";
import { formatIp, ipWords, parseIp } from "../../../src/base/ip.ts";
import { type DnsAnswer, FqdnTable } from "../../../src/core/egress/fqdn_table.ts";

const MINUTE = 60_000;

function answer(question: string, addresses: readonly string[], ttl = 60): DnsAnswer {
  return { question, addresses: addresses.map((text) => ({ address: parseIp(text)!, ttl })) };
}

function namesOf(table: FqdnTable, text: string, now: number): readonly string[] {
  const { version, value } = parseIp(text)!;
  const [dst0, dst1, dst2, dst3] = ipWords({ version, value });
  return table.namesOf({ version, dst0: dst0 | 0, dst1: dst1 | 0, dst2: dst2 | 0, dst3: dst3 | 0 }, now);
}

Deno.test("only names that a rule asks about are learned", () => {
  const table = new FqdnTable(["a.b", "*.c.d"]);
  assert.ok(table.isWatched("a.b") && table.isWatched("x.c.d"));
  assert.equal(table.isWatched("c.d"), false);
  assert.equal(table.learn(answer("c.d", ["192.0.2.1"]), 0), false);
  assert.deepEqual(namesOf(table, "192.0.2.1", 0), []);
  assert.equal(table.learn(answer("x.c.d", ["192.0.2.1", "2001:db8::1"]), 0), true);
  assert.deepEqual(namesOf(table, "192.0.2.1", 0), ["x.c.d"]);
  assert.deepEqual(namesOf(table, "2001:db8::1", 0), ["x.c.d"]);
  assert.deepEqual(namesOf(table, "192.0.2.2", 0), []);
  assert.deepEqual(namesOf(table, "::ffff:192.0.2.1", 0), [], "IPv4-mapped is another address");
});

Deno.test("learn() tells what is new, and an answer without addresses teaches nothing", () => {
  const table = new FqdnTable(["a.b"]);
  assert.equal(table.learn(answer("a.b", []), 0), false);
  assert.equal(table.learn(answer("a.b", ["192.0.2.1"]), 0), true);
  assert.equal(table.learn(answer("a.b", ["192.0.2.1"]), 1), false);
  assert.equal(table.learn(answer("a.b", ["192.0.2.2"]), 2), true);
  assert.equal(
    table.learn(answer("a.b", ["192.0.2.1"]), 2 * MINUTE),
    true,
    "learned, lost and learned again",
  );
});

const LIFETIMES: [ttl: number, lastMoment: number][] = [
  [60, 61_999],
  [0, 6_999],
  [5, 6_999],
  [6, 7_999],
  [86_400, 86_401_999],
  [0x7fff_ffff, 86_401_999],
];

for (const [ttl, lastMoment] of LIFETIMES) {
  Deno.test(`an answer with TTL ${ttl} lives until ${lastMoment} ms`, () => {
    const table = new FqdnTable(["a.b"]);
    table.learn(answer("a.b", ["192.0.2.1"], ttl), 0);
    assert.deepEqual(namesOf(table, "192.0.2.1", lastMoment), ["a.b"]);
    assert.equal(table.addressesOf(["a.b"], lastMoment).length, 1);
    assert.deepEqual(namesOf(table, "192.0.2.1", lastMoment + 1), []);
    assert.deepEqual(table.addressesOf(["a.b"], lastMoment + 1), []);
    table.expire(lastMoment + 1);
    assert.deepEqual(namesOf(table, "192.0.2.1", 0), [], "forgotten");
  });
}

Deno.test("a later answer with a shorter TTL does not shorten what an earlier one promised", () => {
  const table = new FqdnTable(["a.b"]);
  table.learn(answer("a.b", ["192.0.2.1"], 600), 0);
  table.learn(answer("a.b", ["192.0.2.1"], 1), MINUTE);
  table.expire(5 * MINUTE);
  assert.deepEqual(namesOf(table, "192.0.2.1", 5 * MINUTE), ["a.b"]);
});

Deno.test("expire() forgets what has run out and nothing else", () => {
  const table = new FqdnTable(["*.b"]);
  table.learn(answer("short.b", ["192.0.2.1", "192.0.2.2"], 10), 0);
  table.learn(answer("long.b", ["192.0.2.2"], 100), 0);
  table.expire(20_000);
  assert.deepEqual(namesOf(table, "192.0.2.1", 0), []);
  assert.deepEqual(namesOf(table, "192.0.2.2", 0), ["long.b"]);
});

Deno.test("addressesOf() gives each address of the patterns once", () => {
  const table = new FqdnTable(["*.b", "c.d"]);
  table.learn(answer("x.b", ["192.0.2.1", "192.0.2.2"]), 0);
  table.learn(answer("y.b", ["192.0.2.1"]), 0);
  table.learn(answer("c.d", ["192.0.2.9"]), 0);
  assert.deepEqual(table.addressesOf(["*.b"], 0).map(formatIp), ["192.0.2.1", "192.0.2.2"]);
  assert.deepEqual(table.addressesOf(["c.d"], 0).map(formatIp), ["192.0.2.9"]);
  assert.deepEqual(table.addressesOf([], 0), []);
});

Deno.test("watch() forgets names that no rule asks about any more, and keeps the rest", () => {
  const table = new FqdnTable(["*.b", "c.d"]);
  table.learn(answer("x.b", ["192.0.2.1"]), 0);
  table.learn(answer("c.d", ["192.0.2.1", "192.0.2.9"]), 0);
  table.watch(["c.d"]);
  assert.deepEqual(namesOf(table, "192.0.2.1", 0), ["c.d"]);
  table.watch([]);
  assert.deepEqual(namesOf(table, "192.0.2.9", 0), []);
});

Deno.test("a flood of names under a wildcard stays within the bound; the newest and the renewed stay", () => {
  const table = new FqdnTable(["*.b"], { maxNames: 100 });
  table.learn(answer("kept.b", ["192.0.2.1"], 3_600), 0);
  for (let i = 0; i < 10_000; i++) {
    table.learn(answer(`n${i}.b`, [`198.51.${i >> 8}.${i & 255}`], 3_600), i);
    if (i % 50 === 0) table.learn(answer("kept.b", ["192.0.2.1"], 3_600), i);
  }
  assert.equal(table.addressesOf(["*.b"], 10_000).length, 100);
  assert.deepEqual(namesOf(table, "192.0.2.1", 10_000), ["kept.b"]);
  assert.deepEqual(namesOf(table, "198.51.0.0", 10_000), [], "the oldest gave way");
  assert.deepEqual(namesOf(table, `198.51.${9_999 >> 8}.${9_999 & 255}`, 10_000), ["n9999.b"]);
});

Deno.test("one name holds a bounded number of addresses", () => {
  const table = new FqdnTable(["a.b"], { maxAddressesPerName: 4 });
  const many = Array.from({ length: 60 }, (_, i) => `192.0.2.${i}`);
  table.learn(answer("a.b", many.slice(0, 30)), 0);
  assert.equal(table.learn(answer("a.b", many.slice(30)), 0), false);
  assert.equal(table.addressesOf(["a.b"], 0).length, 4);
});
