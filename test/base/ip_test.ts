import assert from "node:assert/strict";
import { BlockList, isIPv4, isIPv6 } from "node:net";
import fc from "fast-check";
import { fromHex, toHex } from "../../src/base/bytes.ts";
import {
  formatIp,
  formatPrefix,
  type IpAddress,
  ipBits,
  ipFromBytes,
  ipFromWords,
  type IpPrefix,
  ipToBytes,
  type IpVersion,
  ipWords,
  parseIp,
  parsePrefix,
  prefixContains,
  prefixOf,
  prefixRange,
  rangeToPrefixes,
} from "../../src/base/ip.ts";

const VERSION = fc.constantFrom<IpVersion>(4, 6);
const ADDRESS: fc.Arbitrary<IpAddress> = VERSION.chain((version) => {
  const max = (1n << BigInt(ipBits(version))) - 1n;
  // Groups of zeros and ones are where the forms of IPv6 differ.
  const sparse = fc.array(fc.constantFrom(0n, 0n, 0n, 1n, 0xffffn), { minLength: 8, maxLength: 8 })
    .map((groups) => groups.reduce<bigint>((value, group) => (value << 16n) | group, 0n) & max);
  return fc.oneof(fc.bigInt({ min: 0n, max }), sparse).map((value) => ({ version, value }));
});
const PREFIX: fc.Arbitrary<IpPrefix> = ADDRESS.chain((address) =>
  fc.integer({ min: 0, max: ipBits(address.version) }).map((length) => prefixOf(address, length))
);

Deno.test("parseIp() refuses everything near an address [RFC4291-2.2]", () => {
  for (
    const text of [
      "",
      "1",
      "1.2.3",
      "1.2.3.4.5",
      "1.2.3.4.",
      ".1.2.3.4",
      "1..2.3",
      "...",
      "01.2.3.4",
      "1.2.3.00",
      "256.1.1.1",
      "1.2.3.0x4",
      "1.2.3.4\n",
      " 1.2.3.4",
      "1.2.3.4 ",
      "1.2.3.-4",
      "1.2.3.4/32",
      "١.2.3.4",
      "2130706433",
      "1e1.2.3.4",
      ":",
      ":::",
      "1:2:3:4:5:6:7",
      "1:2:3:4:5:6:7:8:9",
      "1:2:3:4:5:6:7:8::",
      "::1:2:3:4:5:6:7:8",
      "1:2:3:4::5:6:7:8",
      "1::2::3",
      "12345::",
      "::g",
      "::-1",
      "::+1",
      "::0x1",
      "fe80::1%eth0",
      "[::1]",
      "1.2.3.4::",
      "::1.2.3.4:5",
      "::1.2.3",
      "::1.2.3.256",
      "::01.2.3.4",
      "1:2:3:4:5:6:7:1.2.3.4",
      "1.2.3.4::1",
      ":1::",
      "1::2:",
      "::1\n",
      " ::1",
      "1:2:3:4:5:6:7:8:",
      "0000:0000:0000:0000:0000:ffff:255.255.255.2555",
      "0".repeat(1_000_000),
      ":".repeat(1_000_000),
    ]
  ) assert.equal(parseIp(text), undefined, text.slice(0, 60));
});

Deno.test("parseIp() reads every form of RFC 4291 and of dotted quads", () => {
  for (
    const [text, version, hex] of [
      ["0.0.0.0", 4, "00000000"],
      ["10.100.0.1", 4, "0a640001"],
      ["255.255.255.255", 4, "ffffffff"],
      ["::", 6, "00000000000000000000000000000000"],
      ["::1", 6, "00000000000000000000000000000001"],
      ["1::", 6, "00010000000000000000000000000000"],
      ["2001:DB8:0:0:8:800:200C:417A", 6, "20010db80000000000080800200c417a"],
      ["2001:DB8::8:800:200C:417A", 6, "20010db80000000000080800200c417a"],
      ["0000:0000:0000:0000:0000:ffff:255.255.255.255", 6, "00000000000000000000ffffffffffff"],
      ["::ffff:129.144.52.38", 6, "00000000000000000000ffff81903426"],
      ["::13.1.68.3", 6, "0000000000000000000000000d014403"],
      ["64:ff9b::192.0.2.33", 6, "0064ff9b0000000000000000c0000221"],
      ["1:2:3:4:5:6:192.0.2.1", 6, "000100020003000400050006c0000201"],
      ["1:2:3:4:5:6:7::", 6, "00010002000300040005000600070000"],
      ["::2:3:4:5:6:7:8", 6, "00000002000300040005000600070008"],
      ["1:2:3::5:6:7:8", 6, "00010002000300000005000600070008"],
    ] as const
  ) assert.deepEqual(parseIp(text), { version, value: BigInt(`0x${hex}`) }, text);
});

Deno.test("formatIp() writes the one form that RFC 5952 recommends [RFC5952-4.2]", () => {
  for (
    const [hex, text] of [
      ["20010db8000000000000000000000001", "2001:db8::1"],
      ["20010db8000000010001000100010001", "2001:db8:0:1:1:1:1:1"],
      ["20010000000000010000000000000001", "2001:0:0:1::1"],
      ["20010db8000000000001000000000001", "2001:db8::1:0:0:1"],
      ["00000000000000000000000000000000", "::"],
      ["00010000000000000000000000000000", "1::"],
      ["00000000000000000000000000000001", "::1"],
      ["2001abcdefef00000000000000aaaaaa", "2001:abcd:efef::aa:aaaa"],
      ["00000000000000000000ffffc0000201", "::ffff:192.0.2.1"],
      ["00000000000000000001ffffc0000201", "::1:ffff:c000:201"],
      ["0000000000000000000000000d014403", "::d01:4403"],
    ] as const
  ) assert.equal(formatIp(ipFromBytes(fromHex(hex))), text);
  assert.equal(formatIp({ version: 4, value: 0xff000001n }), "255.0.0.1");
});

Deno.test("parseIp() agrees with another implementation on what is an address", () => {
  const group = fc.oneof(
    fc.nat(0xffff).map((n) => n.toString(16)),
    fc.constantFrom("", "0", "1.2.3.4", "12345", "g"),
  );
  const almost = fc.oneof(
    fc.array(group, { maxLength: 10 }).map((groups) => groups.join(":")),
    fc.ipV6(),
    fc.ipV4(),
    fc.array(fc.constantFrom("0", "01", "9", "255", "256", ""), { maxLength: 5 }).map((octets) =>
      octets.join(".")
    ),
  );
  fc.assert(
    fc.property(almost, (text) => {
      assert.equal(parseIp(text)?.version, isIPv4(text) ? 4 : isIPv6(text) ? 6 : undefined);
    }),
    { numRuns: 2000 },
  );
});

Deno.test("addresses survive text, bytes and words, and one address has one text", () => {
  fc.assert(fc.property(ADDRESS, (address) => {
    assert.deepEqual(parseIp(formatIp(address)), address);
    assert.deepEqual(ipFromBytes(ipToBytes(address)), address);
    assert.equal(ipToBytes(address).length, ipBits(address.version) / 8);
    const [w0, w1, w2, w3] = ipWords(address);
    for (const word of [w0, w1, w2, w3]) {
      assert.ok(word >= 0 && word <= 0xffff_ffff && Number.isInteger(word));
    }
    assert.deepEqual(ipFromWords(address.version, w0, w1, w2, w3), address);
    assert.deepEqual(ipFromWords(address.version, w0 | 0, w1 | 0, w2 | 0, w3 | 0), address);
  }));
});

Deno.test("formatIp() writes what a URL parser makes of any IPv6 address", () => {
  fc.assert(
    fc.property(
      ADDRESS.filter(({ version, value }) => version === 6 && value >> 32n !== 0xffffn),
      (address) => {
        const long = toHex(ipToBytes(address)).replace(/....(?!$)/g, "$&:");
        assert.equal(`[${formatIp(address)}]`, new URL(`http://[${long}]/`).hostname);
      },
    ),
  );
});

Deno.test("ipWords() maps IPv4 as a packet view does", () => {
  assert.deepEqual(ipWords({ version: 4, value: 0xff00_0001n }), [0, 0, 0xffff, 0xff00_0001]);
});

Deno.test("ipFromBytes() refuses other lengths than 4 and 16", () => {
  for (const length of [0, 3, 5, 15, 17]) {
    assert.throws(() => ipFromBytes(new Uint8Array(length)), RangeError);
  }
});

Deno.test("ipFromBytes() reads a view in the middle of a buffer", () => {
  assert.equal(formatIp(ipFromBytes(fromHex("ffff0a000001ffff").subarray(2, 6))), "10.0.0.1");
});

Deno.test("parsePrefix() clears host bits and takes a bare address as itself", () => {
  for (
    const [text, canonical] of [
      ["10.0.0.0/8", "10.0.0.0/8"],
      ["10.1.2.3/8", "10.0.0.0/8"],
      ["255.255.255.255/0", "0.0.0.0/0"],
      ["10.1.2.3", "10.1.2.3/32"],
      ["2001:db8::1/32", "2001:db8::/32"],
      ["::1", "::1/128"],
      ["ffff::/0", "::/0"],
    ]
  ) assert.equal(formatPrefix(parsePrefix(text as string)!), canonical);
});

Deno.test("parsePrefix() refuses everything near a prefix", () => {
  for (
    const text of [
      "",
      "/",
      "/8",
      "10.0.0.0/",
      "10.0.0.0/33",
      "10.0.0.0/-1",
      "10.0.0.0/08",
      "10.0.0.0/8 ",
      "10.0.0.0/8/8",
      "10.0.0.0/1e1",
      "10.0.0.0/255.0.0.0",
      "10/8",
      "::/129",
      "::/1000",
      "::%1/64",
      "*",
    ]
  ) assert.equal(parsePrefix(text), undefined, text);
});

Deno.test("prefixOf() refuses lengths that no prefix has", () => {
  for (const length of [-1, 33, 1.5, NaN]) {
    assert.throws(() => prefixOf({ version: 4, value: 0n }, length), RangeError);
  }
  assert.throws(() => prefixOf({ version: 6, value: 0n }, 129), RangeError);
});

Deno.test("prefixContains() knows its neighbours", () => {
  const prefix = parsePrefix("10.100.0.0/24")!;
  for (const inside of ["10.100.0.0", "10.100.0.255"]) assert.ok(prefixContains(prefix, parseIp(inside)!));
  for (const outside of ["10.99.255.255", "10.100.1.0", "::a64:0", "::ffff:10.100.0.1"]) {
    assert.ok(!prefixContains(prefix, parseIp(outside)!), outside);
  }
});

Deno.test("prefixContains() and prefixRange() agree with another implementation", () => {
  fc.assert(fc.property(PREFIX, ADDRESS, fc.integer({ min: -2, max: 2 }), (prefix, other, step) => {
    const { first, last } = prefixRange(prefix);
    const max = (1n << BigInt(ipBits(prefix.version))) - 1n;
    const near = [first + BigInt(step), last + BigInt(step)].filter((value) => value >= 0n && value <= max)
      .map((value): IpAddress => ({ version: prefix.version, value }));
    const family = (version: IpVersion) => version === 4 ? "ipv4" : "ipv6";
    const list = new BlockList();
    list.addSubnet(
      formatIp({ version: prefix.version, value: first }),
      prefix.length,
      family(prefix.version),
    );
    for (const address of [...near, other]) {
      const contained = prefixContains(prefix, address);
      if (address.version === prefix.version) {
        assert.equal(contained, list.check(formatIp(address), family(address.version)));
        assert.equal(contained, address.value >= first && address.value <= last);
      } else assert.equal(contained, false);
    }
  }));
});

Deno.test("prefixes survive the round trip", () => {
  fc.assert(fc.property(PREFIX, (prefix) => {
    assert.deepEqual(parsePrefix(formatPrefix(prefix)), prefix);
    assert.deepEqual(rangeToPrefixes(prefixRange(prefix)), [prefix]);
  }));
});

Deno.test("rangeToPrefixes() covers a range exactly, with no two prefixes that would make one", () => {
  fc.assert(fc.property(ADDRESS, ADDRESS, (a, b) => {
    fc.pre(a.version === b.version);
    const [first, last] = a.value <= b.value ? [a.value, b.value] : [b.value, a.value];
    const prefixes = rangeToPrefixes({ version: a.version, first, last });
    assert.ok(prefixes.length > 0 && prefixes.length <= 2 * ipBits(a.version));
    let next = first;
    for (const [i, prefix] of prefixes.entries()) {
      assert.equal(prefix.first, next);
      assert.deepEqual(prefixOf({ version: a.version, value: prefix.first }, prefix.length), prefix);
      next = prefixRange(prefix).last + 1n;
      const following = prefixes[i + 1];
      if (following?.length === prefix.length) {
        const parent = (p: IpPrefix) => prefixOf({ version: p.version, value: p.first }, p.length - 1).first;
        assert.notEqual(parent(prefix), parent(following));
      }
    }
    assert.equal(next, last + 1n);
  }));
});

Deno.test("rangeToPrefixes() of an empty range is empty, of everything one prefix", () => {
  assert.deepEqual(rangeToPrefixes({ version: 4, first: 2n, last: 1n }), []);
  assert.deepEqual(rangeToPrefixes({ version: 6, first: 0n, last: (1n << 128n) - 1n }).map(formatPrefix), [
    "::/0",
  ]);
  assert.deepEqual(rangeToPrefixes({ version: 4, first: 1n, last: 0xffff_fffen }).length, 62);
});
