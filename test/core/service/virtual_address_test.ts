/** Every service has a number of its own that no other service's coming or going changes without need. */

import assert from "node:assert/strict";
import fc from "fast-check";
import { formatIp, parseIp, parsePrefix } from "../../../src/base/ip.ts";
import {
  assignIndexes,
  preferredIndex,
  SERVICE_INDEXES,
  virtualAddress,
  virtualIndex,
} from "../../../src/core/service/virtual_address.ts";

const NETWORK = {
  zone: "ginnel.internal",
  ipv4: parsePrefix("10.101.0.0/16")!,
  ipv6: parsePrefix("fd00:1:2:3::/64")!,
};

const services = fc.uniqueArray(
  fc.record({
    name: fc.stringMatching(/^[a-z]{1,3}$/),
    index: fc.option(fc.integer({ min: 10, max: 40 }), { nil: undefined }),
  }).map(({ name, index }) => index === undefined ? { name } : { name, index }),
  { selector: ({ name }) => name, maxLength: 40 },
);

Deno.test("assignIndexes() gives each number once, keeps those that are fixed, and knows no order", () => {
  fc.assert(fc.property(services, fc.infiniteStream(fc.nat()), (list, order) => {
    const indexes = assignIndexes(list);
    assert.equal(new Set(indexes.values()).size, indexes.size);
    for (const index of indexes.values()) {
      assert.ok(index >= SERVICE_INDEXES.first && index <= SERVICE_INDEXES.last);
    }
    const valid = list.filter(({ index }) => index !== undefined && index >= SERVICE_INDEXES.first);
    const holders = valid.filter(({ name, index }) => indexes.get(name) === index);
    assert.equal(holders.length, new Set(valid.map(({ index }) => index)).size);
    assert.equal(indexes.size, holders.length + list.filter(({ index }) => index === undefined).length);
    const shuffled = list.map((service) => ({ service, key: order.next().value! }))
      .sort((a, b) => a.key - b.key).map(({ service }) => service);
    assert.deepEqual(assignIndexes(shuffled), indexes);
  }));
});

Deno.test("a service that collides takes the next number, also past the end", () => {
  const last = SERVICE_INDEXES.last;
  const taken = preferredIndex("web");
  assert.equal(assignIndexes([{ name: "web" }, { name: "x", index: taken }]).get("web"), taken + 1);
  const names = Array.from({ length: 40_000 }, (_, i) => `s${i}`);
  const atEnd = names.find((name) => preferredIndex(name) === last)!;
  const indexes = assignIndexes([{ name: atEnd }, { name: "x", index: last }]);
  assert.equal(indexes.get(atEnd), SERVICE_INDEXES.first);
});

Deno.test("of more services than there are numbers, the last by name get none", () => {
  const count = SERVICE_INDEXES.last - SERVICE_INDEXES.first + 1;
  const names = Array.from({ length: count + 2 }, (_, i) => `s${String(i).padStart(5, "0")}`);
  const indexes = assignIndexes(names.map((name) => ({ name })));
  assert.equal(indexes.size, count);
  assert.equal(new Set(indexes.values()).size, count);
  assert.deepEqual(names.filter((name) => !indexes.has(name)), names.slice(-2));
});

Deno.test("preferredIndex() never changes between versions: addresses are stable for life", () => {
  assert.deepEqual(["web", "db", "claude-api"].map(preferredIndex), [14_353, 11_203, 24_858]);
});

Deno.test("a number leads to two addresses and back, and other addresses to none", () => {
  const at = (version: 4 | 6) => formatIp(virtualAddress(NETWORK, version, 0x1234));
  assert.deepEqual([at(4), at(6)], ["10.101.18.52", "fd00:1:2:3::1234"]);
  for (const text of ["10.101.18.52", "fd00:1:2:3::1234"]) {
    assert.equal(virtualIndex(NETWORK, parseIp(text)!), 0x1234);
  }
  for (const text of ["10.102.18.52", "fd00:1:2:3::1:1234", "fd00:1:2:4::1234", "::ffff:10.101.18.52"]) {
    assert.equal(virtualIndex(NETWORK, parseIp(text)!), undefined, text);
  }
});
