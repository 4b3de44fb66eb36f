import assert from "node:assert/strict";
import fc from "fast-check";
import { type IpAddress, ipWords, parseIp } from "../../src/base/ip.ts";
import { AddressIndex } from "../../src/core/address_index.ts";

function set<V>(index: AddressIndex<V>, address: IpAddress, value: V): void {
  index.set(address.version, ipWords(address), value);
}

function get<V>(index: AddressIndex<V>, address: IpAddress): V | undefined {
  return index.get(address.version, ...ipWords(address));
}

Deno.test("an address is found, its neighbours and its likeness in the other version are not", () => {
  for (const text of ["10.0.0.2", "255.255.255.255", "0.0.0.0", "fd00::2", "::", "ffff:ffff::"]) {
    const index = new AddressIndex<string>();
    const address = parseIp(text)!;
    set(index, address, text);
    assert.equal(get(index, address), text);
    const words = ipWords(address);
    for (const word of address.version === 4 ? [3] : [0, 1, 2, 3]) {
      for (const bit of [0, 15, 31]) {
        const near = [...words] as [number, number, number, number];
        near[word] = (near[word]! ^ (1 << bit)) >>> 0;
        assert.equal(index.get(address.version, ...near), undefined, `${text} word ${word} bit ${bit}`);
      }
    }
    assert.equal(
      index.get(address.version === 4 ? 6 : 4, ...words),
      undefined,
      `${text} in the other version`,
    );
  }
});

Deno.test("any sequence of sets and deletes gives what a map gives", () => {
  // Few distinct addresses whose words differ in one place, so that runs of slots form and break.
  const address = fc.tuple(fc.constantFrom<4 | 6>(4, 6), fc.integer({ min: 0, max: 3 }), fc.nat({ max: 40 }))
    .map(([version, word, n]): IpAddress => ({
      version,
      value: version === 4 ? BigInt(n) : BigInt(n) << BigInt(32 * word),
    }));
  const action = fc.record({ address, value: fc.option(fc.nat(), { freq: 1 }) });
  fc.assert(
    fc.property(fc.array(action, { maxLength: 300, size: "max" }), (actions) => {
      const index = new AddressIndex<number>();
      const map = new Map<string, { address: IpAddress; value: number }>();
      for (const { address, value } of actions) {
        const key = `${address.version} ${address.value}`;
        if (value === null) {
          map.delete(key);
          index.delete(address.version, ipWords(address));
        } else {
          map.set(key, { address, value });
          set(index, address, value);
        }
        assert.equal(index.size, map.size);
      }
      for (const { address } of actions) {
        const expected = map.get(`${address.version} ${address.value}`)?.value;
        assert.equal(get(index, address), expected);
      }
    }),
    { numRuns: 200 },
  );
});

Deno.test("a pool's worth of neighbours stays fast to find", () => {
  const index = new AddressIndex<number>();
  const first = parseIp("10.0.0.0")!.value;
  for (let i = 0; i < 100_000; i++) set(index, { version: 4, value: first + BigInt(i) }, i);
  const started = performance.now();
  let found = 0;
  for (let round = 0; round < 10; round++) {
    for (let i = 0; i < 100_000; i++) {
      if (index.get(4, 0, 0, 0xffff, 0x0a000000 + i) === i) found++;
    }
  }
  assert.equal(found, 1_000_000);
  // Clustered they would take minutes; the bound leaves a loaded machine room.
  assert.ok(performance.now() - started < 10_000);
});
