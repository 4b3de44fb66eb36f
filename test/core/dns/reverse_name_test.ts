import assert from "node:assert/strict";
import fc from "fast-check";
import { formatPrefix, parsePrefix, prefixContains, prefixOf } from "../../../src/base/ip.ts";
import { readReverseName, reverseDomains } from "../../../src/core/dns/reverse_name.ts";

const prefix = (text: string) => parsePrefix(text)!;

Deno.test("whole and partial names are read in both families", () => {
  const ip6 = `${"0.".repeat(23)}0.1.2.3.4.5.6.d.f.ip6.arpa`;
  const cases = {
    "16.0.101.10.in-addr.arpa": "10.101.0.16/32",
    "101.10.in-addr.arpa": "10.101.0.0/16",
    "10.in-addr.arpa": "10.0.0.0/8",
    [ip6]: "fd65:4321::/128",
    "d.f.ip6.arpa": "fd00::/8",
  };
  for (const [name, text] of Object.entries(cases)) {
    assert.equal(formatPrefix(readReverseName(name)!), text, name);
  }
});

Deno.test("what is no reverse name is none", () => {
  const names = [
    ...["in-addr.arpa", "ip6.arpa", ".in-addr.arpa", "a.in-addr.arpa", "256.in-addr.arpa", "01.in-addr.arpa"],
    ...["1.2.3.4.5.in-addr.arpa", "1..2.in-addr.arpa", "-1.in-addr.arpa", "g.ip6.arpa", "10.ip6.arpa"],
    ...[`${"0.".repeat(33)}ip6.arpa`, "lb._dns-sd._udp.0.0.77.10.in-addr.arpa", "1.in-addr.arpa.example", ""],
  ];
  for (const name of names) assert.equal(readReverseName(name), undefined, name);
});

Deno.test("a prefix between labels takes as many domains as it needs", () => {
  assert.deepEqual(reverseDomains(prefix("10.101.0.0/16")), ["101.10.in-addr.arpa"]);
  assert.deepEqual(reverseDomains(prefix("192.0.2.0/23")), ["2.0.192.in-addr.arpa", "3.0.192.in-addr.arpa"]);
  assert.deepEqual(reverseDomains(prefix("fd65:4321::/30")), [
    ...["0", "1", "2", "3"].map((digit) => `${digit}.2.3.4.5.6.d.f.ip6.arpa`),
  ]);
  assert.deepEqual(reverseDomains(prefix("0.0.0.0/0")), []);
  assert.equal(reverseDomains(prefix("0.0.0.0/1")).length, 128);
});

Deno.test("the domains of any prefix hold its addresses, and nothing else", () => {
  const length = fc.integer({ min: 1, max: 128 });
  fc.assert(fc.property(fc.bigInt({ min: 0n, max: (1n << 128n) - 1n }), length, (value, length) => {
    const wanted = prefixOf({ version: 6, value }, length);
    const parts = reverseDomains(wanted).map((domain) => readReverseName(domain)!);
    assert.ok(parts.every(({ first }) => prefixContains(wanted, { version: 6, value: first })));
    const size = parts.reduce((sum, part) => sum + (1n << BigInt(128 - part.length)), 0n);
    assert.equal(size, 1n << BigInt(128 - length));
    assert.equal(new Set(parts.map(formatPrefix)).size, parts.length);
  }));
});
