import assert from "node:assert/strict";
import fc from "fast-check";
import { formatIp, parseIp, parsePrefix } from "../../src/base/ip.ts";
import { AddressPool } from "../../src/core/address_pool.ts";

function pool(prefix: string): AddressPool {
  return new AddressPool(parsePrefix(prefix)!);
}

function reserve(...indexes: number[]): Map<number, Set<string>> {
  return new Map(indexes.map((index) => [index, new Set(["owner"])]));
}

Deno.test("indexOf() knows client addresses only, one neighbour off is none", () => {
  const rows: [string, string, number | undefined][] = [
    ["10.0.0.0/29", "9.255.255.255", undefined],
    ["10.0.0.0/29", "10.0.0.0", undefined],
    ["10.0.0.0/29", "10.0.0.1", undefined],
    ["10.0.0.0/29", "10.0.0.2", 2],
    ["10.0.0.0/29", "10.0.0.6", 6],
    ["10.0.0.0/29", "10.0.0.7", undefined],
    ["10.0.0.0/29", "10.0.0.8", undefined],
    ["10.0.0.0/29", "::10.0.0.2", undefined],
    ["0.0.0.0/0", "255.255.255.254", 2 ** 32 - 2],
    ["0.0.0.0/0", "255.255.255.255", undefined],
    ["fd00::/64", "fd00::1", undefined],
    ["fd00::/64", "fd00::2", 2],
    ["fd00::/64", "fd00::ffff:ffff", 2 ** 32 - 1],
    ["fd00::/64", "fd00::1:0:0", undefined],
    ["fd00::/126", "fd00::3", 3],
    ["fd00::/126", "fd00::4", undefined],
  ];
  for (const [prefix, address, index] of rows) {
    assert.equal(pool(prefix).indexOf(parseIp(address)!), index, `${address} in ${prefix}`);
  }
});

Deno.test("addressAt() is the way back", () => {
  assert.equal(formatIp(pool("10.1.0.0/16").addressAt(258)), "10.1.1.2");
  assert.equal(formatIp(pool("fd00:1:2:3::/64").addressAt(258)), "fd00:1:2:3::102");
});

Deno.test("what was never used comes before what somebody had", () => {
  const addresses = pool("10.0.0.0/29");
  for (const index of [2, 3, 4]) {
    assert.equal(addresses.findFree(), index);
    addresses.take(index, "x");
  }
  addresses.free(3);
  assert.equal(addresses.findFree(), 5);
  addresses.take(5, "x");
  addresses.take(6, "x");
  assert.equal(addresses.findFree(), 3);
  addresses.take(3, "x");
  assert.equal(addresses.findFree(), undefined);
  assert.equal(addresses.findFree(4), undefined);
});

Deno.test("a preferred index is given only when it is a free client address reserved for nobody", () => {
  const addresses = pool("10.0.0.0/29");
  addresses.take(4, "x");
  addresses.setReservations(reserve(5));
  for (const [preferred, found] of [[6, 6], [0, 2], [1, 2], [7, 2], [4, 2], [5, 2], [2 ** 32, 2]]) {
    assert.equal(addresses.findFree(preferred), found, `${preferred}`);
  }
});

Deno.test("a reservation is for its identities, leased or not", () => {
  const addresses = pool("10.0.0.0/30");
  addresses.setReservations(reserve(2));
  assert.equal(addresses.findFree(), undefined);
  assert.ok(addresses.mayHave("owner", 2));
  assert.ok(!addresses.mayHave("other", 2));
  addresses.setReservations(new Map());
  assert.ok(addresses.mayHave("other", 2));
  assert.equal(addresses.findFree(), 2);
});

Deno.test("any sequence of takes, frees and reservations leaves exactly the free ones to be found", () => {
  const index = fc.integer({ min: 2, max: 14 });
  const action = fc.oneof(
    fc.record({ take: index }),
    fc.record({ free: index }),
    fc.record({ reserve: fc.uniqueArray(index, { maxLength: 4 }) }),
    fc.record({ drain: fc.constant(true) }),
  );
  fc.assert(
    fc.property(fc.array(action, { maxLength: 80 }), (actions) => {
      const addresses = pool("10.0.0.0/28");
      const taken = new Set<number>();
      let reserved: number[] = [];
      const take = (index: number) => {
        addresses.take(index, "x");
        taken.add(index);
      };
      for (const each of actions) {
        if ("take" in each && !taken.has(each.take)) take(each.take);
        if ("free" in each && taken.delete(each.free)) addresses.free(each.free);
        if ("reserve" in each) addresses.setReservations(reserve(...reserved = each.reserve));
        if ("drain" in each) {
          for (let found = addresses.findFree(); found !== undefined; found = addresses.findFree()) {
            assert.ok(!taken.has(found) && !reserved.includes(found), `${found} is not free`);
            take(found);
          }
          for (let each = 2; each <= 14; each++) assert.ok(taken.has(each) || reserved.includes(each));
        }
        assert.equal(addresses.leased, taken.size);
        const free = 13 - new Set([...taken, ...reserved]).size;
        assert.equal(addresses.findFree() !== undefined, free > 0);
      }
    }),
  );
});
