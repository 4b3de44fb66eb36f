/** Prefix sets against the plain arithmetic of `base/ip.ts`, and what is never routable with its neighbours. */

import assert from "node:assert/strict";
import fc from "fast-check";
import {
  formatIp,
  type IpAddress,
  ipBits,
  type IpPrefix,
  ipWords,
  parseIp,
  parsePrefix,
  prefixContains,
  prefixOf,
  prefixRange,
} from "../../../src/base/ip.ts";
import { type Destination, isRoutable, liesWithin, PrefixSet } from "../../../src/core/egress/prefix_set.ts";

function destination(address: IpAddress): Destination {
  const [dst0, dst1, dst2, dst3] = ipWords(address);
  return { version: address.version, dst0: dst0 | 0, dst1: dst1 | 0, dst2: dst2 | 0, dst3: dst3 | 0 };
}

const anAddress: fc.Arbitrary<IpAddress> = fc.constantFrom(4 as const, 6 as const).chain((version) =>
  fc.bigInt({ min: 0n, max: (1n << BigInt(ipBits(version))) - 1n }).map((value) => ({ version, value }))
);
const aPrefix: fc.Arbitrary<IpPrefix> = anAddress.chain((address) =>
  fc.integer({ min: 0, max: ipBits(address.version) }).map((length) => prefixOf(address, length))
);

Deno.test("a set holds exactly the addresses of its prefixes, at their edges too", () => {
  fc.assert(fc.property(fc.array(aPrefix, { maxLength: 8 }), anAddress, (prefixes, anywhere) => {
    const set = new PrefixSet(prefixes);
    const edges = prefixes.flatMap((prefix): IpAddress[] => {
      const { version, first, last } = prefixRange(prefix);
      return [first - 1n, first, last, last + 1n].filter((value) =>
        value >= 0n && value >> BigInt(ipBits(version)) === 0n
      )
        .map((value) => ({ version, value }));
    });
    for (const address of [anywhere, ...edges]) {
      const expected = prefixes.some((prefix) => prefixContains(prefix, address));
      assert.equal(set.contains(destination(address)), expected, formatIp(address));
    }
  }));
});

Deno.test("everything in IPv6 holds no IPv4 address, and the other way round", () => {
  assert.equal(new PrefixSet([parsePrefix("::/0")!]).contains(destination(parseIp("8.8.8.8")!)), false);
  const everything4 = new PrefixSet([parsePrefix("0.0.0.0/0")!]);
  assert.equal(everything4.contains(destination(parseIp("::ffff:8.8.8.8")!)), false);
  assert.equal(everything4.contains(destination(parseIp("2001:db8::1")!)), false);
});

Deno.test("liesWithin() wants the whole prefix inside one of the others", () => {
  fc.assert(fc.property(aPrefix, fc.array(aPrefix, { maxLength: 3 }), (inner, outer) => {
    const { version, first, last } = prefixRange(inner);
    const expected = outer.some((prefix) =>
      prefixContains(prefix, { version, value: first }) && prefixContains(prefix, { version, value: last })
    );
    assert.equal(liesWithin(inner, outer), expected);
  }));
  const pools = [parsePrefix("10.100.0.0/24")!];
  for (
    const [text, expected] of [["10.100.0.0/24", true], ["10.100.0.7", true], [
      "10.100.0.0/23",
      false,
    ]] as const
  ) {
    assert.equal(liesWithin(parsePrefix(text)!, pools), expected, text);
  }
});

const ROUTABLE: [never: string[], neighbours: string[]][] = [
  [["0.0.0.0", "0.255.255.255"], ["1.0.0.0"]],
  [["127.0.0.0", "127.0.0.1", "127.255.255.255"], ["126.255.255.255", "128.0.0.0"]],
  [["169.254.0.0", "169.254.169.254", "169.254.255.255"], ["169.253.255.255", "169.255.0.0"]],
  [["224.0.0.0", "239.255.255.255", "240.0.0.1", "255.255.255.255"], ["223.255.255.255"]],
  [["::", "::1", "::127.0.0.1", "::ffff:8.8.8.8", "::ffff:169.254.169.254"], ["::1:0:0:1", "::1:0:0:0:1"]],
  [["fe80::", "fe80::1", "febf:ffff::1"], ["fe7f:ffff::1", "fec0::1"]],
  [["ff00::1", "ff02::1", "ffff::"], ["feff::1", "fd00::1"]],
  [
    ["64:ff9b::169.254.169.254", "64:ff9b::127.0.0.1", "64:ff9b::224.0.0.1"],
    ["64:ff9b::8.8.8.8", "64:ff9b:1::169.254.169.254"],
  ],
];

for (const [never, neighbours] of ROUTABLE) {
  Deno.test(`nothing is forwarded to ${never.join(", ")}; ${neighbours.join(", ")} may be`, () => {
    for (const text of never) assert.equal(isRoutable(destination(parseIp(text)!)), false, text);
    for (const text of neighbours) assert.equal(isRoutable(destination(parseIp(text)!)), true, text);
  });
}
