import assert from "node:assert/strict";
import fc from "fast-check";
import { concat, fromHex, toHex } from "../../../src/base/bytes.ts";
import {
  formatIp,
  type IpAddress,
  ipBits,
  type IpRange,
  type IpVersion,
  parseIp,
  parsePrefix,
  prefixOf,
  prefixRange,
} from "../../../src/base/ip.ts";
import { CapsuleReader } from "../../../src/wire/capsule/capsule.ts";
import {
  ADDRESS_ASSIGN,
  ADDRESS_REQUEST,
  type AssignedAddress,
  decodeAddressAssign,
  decodeAddressRequest,
  decodeRouteAdvertisement,
  encodeAddressAssign,
  encodeAddressRequest,
  encodeRouteAdvertisement,
  type IpRoute,
  isRefusedAddress,
  MAX_ADDRESSES,
  MAX_CONNECT_IP_CAPSULE,
  MAX_ROUTES,
  ROUTE_ADVERTISEMENT,
} from "../../../src/wire/capsule/connect_ip.ts";
import { H3_DATAGRAM_ERROR, H3_MESSAGE_ERROR } from "../../../src/wire/h3/codes.ts";
import { assertDeclaredErrors, readCorpus, readVectors } from "../corpus.ts";

interface Vector {
  readonly name: string;
  readonly kind: "assign" | "request" | "routes";
  readonly list: readonly (readonly [number | string, string, number])[];
  readonly hex: string;
}

const MALFORMED = { code: "ERR_PROTOCOL", scope: "stream", wireCode: H3_MESSAGE_ERROR };
const TOO_MUCH = { code: "ERR_PROTOCOL", scope: "stream", wireCode: H3_DATAGRAM_ERROR };
const TYPES = { assign: ADDRESS_ASSIGN, request: ADDRESS_REQUEST, routes: ROUTE_ADVERTISEMENT };

Deno.test("capsules of connect-ip are those of the examples [RFC9484-8]", () => {
  for (const { name, kind, list, hex } of readVectors<Vector>("rfc9484/capsules.json").vectors) {
    const { type, value } = open(fromHex(hex));
    assert.equal(type, TYPES[kind], name);
    if (kind === "routes") {
      const routes = list.map(([first, last, protocol]) => route(String(first), last, protocol));
      assert.deepEqual(decodeRouteAdvertisement(value), routes, name);
      assert.equal(toHex(encodeRouteAdvertisement(routes)), hex, name);
    } else {
      const addresses = list.map(([id, text, length]) => address(Number(id), text, length));
      const [encode, decode] = kind === "assign"
        ? [encodeAddressAssign, decodeAddressAssign]
        : [encodeAddressRequest, decodeAddressRequest];
      assert.deepEqual(decode(value), addresses, name);
      assert.equal(toHex(encode(addresses)), hex, name);
    }
  }
});

Deno.test("decoding addresses refuses a value cut at any byte that is not the end of one [RFC9297-3.3] [RFC9484-4.7.1]", () => {
  for (const id of [1, 64, 16_384, 2 ** 30]) {
    const first = open(encodeAddressRequest([address(id, "192.0.2.1", 32)])).value;
    const value = concat([first, open(encodeAddressRequest([address(id + 1, "2001:db8::1", 128)])).value]);
    for (let cut = 1; cut < value.length; cut++) {
      const part = value.subarray(0, cut);
      if (cut === first.length) {
        assert.equal(decodeAddressAssign(part).length, 1);
        assert.equal(decodeAddressRequest(part).length, 1);
      } else {
        assert.throws(() => decodeAddressAssign(part), MALFORMED, `cut at ${cut}`);
        assert.throws(() => decodeAddressRequest(part), MALFORMED, `cut at ${cut}`);
      }
    }
    assert.throws(() => decodeAddressRequest(concat([value, Uint8Array.of(9)])), MALFORMED);
  }
});

Deno.test("decodeRouteAdvertisement() refuses a value cut at any byte that is not the end of a route [RFC9484-4.7.3]", () => {
  const first = open(encodeRouteAdvertisement([route("10.0.0.0", "10.0.0.9", 6)])).value;
  const value = concat([first, open(encodeRouteAdvertisement([route("::1", "::2", 0)])).value]);
  for (let cut = 1; cut < value.length; cut++) {
    const part = value.subarray(0, cut);
    if (cut === first.length) assert.equal(decodeRouteAdvertisement(part).length, 1);
    else assert.throws(() => decodeRouteAdvertisement(part), MALFORMED, `cut at ${cut}`);
  }
  assert.throws(() => decodeRouteAdvertisement(concat([value, Uint8Array.of(4)])), MALFORMED);
});

Deno.test("every IP version but 4 and 6 is refused [RFC9484-4.7.1] [RFC9484-4.7.3]", () => {
  for (let version = 0; version < 256; version++) {
    if (version === 4 || version === 6) continue;
    const body = new Uint8Array(40);
    const entry = concat([Uint8Array.of(1, version), body]);
    assert.throws(() => decodeAddressAssign(entry), MALFORMED, `version ${version}`);
    assert.throws(() => decodeAddressRequest(entry), MALFORMED, `version ${version}`);
    assert.throws(() => decodeRouteAdvertisement(entry.subarray(1)), MALFORMED, `version ${version}`);
  }
});

Deno.test("prefixes longer than their address are refused [RFC9484-4.7.1]", () => {
  for (const [version, size, bits] of [[4, 4, 32], [6, 16, 128]] as const) {
    for (let length = 0; length < 256; length++) {
      const value = concat([Uint8Array.of(1, version), new Uint8Array(size), Uint8Array.of(length)]);
      for (const decode of [decodeAddressAssign, decodeAddressRequest]) {
        if (length <= bits) assert.equal(decode(value)[0]?.prefixLength, length);
        else assert.throws(() => decode(value), MALFORMED, `IPv${version} prefix ${length}`);
      }
    }
  }
});

Deno.test("bits behind a prefix are refused both ways [RFC9484-4.7.1] [RFC9484-4.7.2]", () => {
  for (
    const [text, length] of [["10.0.0.1", 31], ["10.0.0.1", 8], ["128.0.0.0", 0], ["2001:db8::1", 64], [
      "::1",
      127,
    ]] as const
  ) {
    const bad = address(1, text, length);
    const value = concat([
      Uint8Array.of(1, bad.address.version),
      open(encodeAddressAssign([address(1, text, ipBits(bad.address.version))])).value.subarray(2, -1),
      Uint8Array.of(length),
    ]);
    for (const decode of [decodeAddressAssign, decodeAddressRequest]) {
      assert.throws(() => decode(value), MALFORMED);
    }
    for (const encode of [encodeAddressAssign, encodeAddressRequest]) {
      assert.throws(() => encode([bad]), RangeError);
    }
  }
});

Deno.test("an empty list is an assignment and a set of routes, but no request [RFC9484-4.7.2]", () => {
  const nothing = new Uint8Array();
  assert.deepEqual(decodeAddressAssign(nothing), []);
  assert.deepEqual(decodeRouteAdvertisement(nothing), []);
  assert.throws(() => decodeAddressRequest(nothing), MALFORMED);
  assert.equal(toHex(encodeAddressAssign([])), "0100");
  assert.equal(toHex(encodeRouteAdvertisement([])), "0300");
  assert.throws(() => encodeAddressRequest([]), RangeError);
});

Deno.test("request IDs of requests are neither 0 nor repeated; those of assignments may be [RFC9484-4.7.2]", () => {
  for (const ids of [[0], [1, 0], [1, 2, 1], [5, 5]]) {
    const list = ids.map((id) => address(id, "10.0.0.1", 32));
    assert.throws(() => encodeAddressRequest(list), RangeError, String(ids));
    const { value } = open(encodeAddressAssign(list));
    assert.throws(() => decodeAddressRequest(value), MALFORMED, String(ids));
    assert.deepEqual(decodeAddressAssign(value), list);
  }
});

Deno.test("request IDs are exact up to 2^53-1 and refused above", () => {
  for (const id of [0, 63, 64, 16_383, 16_384, 2 ** 30 - 1, 2 ** 30, 2 ** 53 - 1]) {
    const list = [address(id, "10.0.0.1", 32)];
    assert.deepEqual(decodeAddressAssign(open(encodeAddressAssign(list)).value), list);
  }
  for (const hex of ["c020000000000000", "ffffffffffffffff"]) {
    assert.throws(() => decodeAddressAssign(fromHex(`${hex}04 0a000001 20`)), TOO_MUCH);
    assert.throws(() => decodeAddressRequest(fromHex(`${hex}04 0a000001 20`)), TOO_MUCH);
  }
  assert.throws(() => encodeAddressAssign([address(2 ** 53, "10.0.0.1", 32)]), RangeError);
  assert.throws(() => encodeAddressAssign([address(-1, "10.0.0.1", 32)]), RangeError);
});

Deno.test("routes out of order, overlapping or backwards are refused both ways [RFC9484-4.7.3]", () => {
  for (
    const [routes, fine] of [
      [[["10.0.0.0", "10.0.0.9", 0], ["10.0.0.10", "10.0.0.20", 0]], true],
      [[["10.0.0.0", "10.0.0.9", 0], ["10.0.0.9", "10.0.0.20", 0]], false],
      [[["10.0.0.0", "10.0.0.9", 0], ["10.0.0.0", "10.0.0.9", 0]], false],
      [[["10.0.0.0", "10.0.0.9", 0], ["9.0.0.0", "9.0.0.9", 0]], false],
      [[["10.0.0.0", "10.0.0.9", 0], ["10.0.0.2", "10.0.0.3", 0]], false],
      [[["10.0.0.1", "10.0.0.1", 0]], true],
      [[["10.0.0.1", "10.0.0.0", 0]], false],
      [[["::2", "::1", 0]], false],
      [[["10.0.0.0", "10.0.0.9", 6], ["10.0.0.0", "10.0.0.9", 17]], true],
      [[["10.0.0.0", "10.0.0.9", 17], ["11.0.0.0", "11.0.0.9", 6]], false],
      [[["10.0.0.0", "10.0.0.9", 17], ["::", "::9", 6]], true],
      [[["::", "::9", 0], ["10.0.0.0", "10.0.0.9", 0]], false],
      [[["255.255.255.255", "255.255.255.255", 0], ["::", "::", 0]], true],
      // One protocol and all protocols: not beside each other, even though the order alone would let them.
      [[["10.0.0.0", "10.0.0.9", 0], ["10.0.0.9", "10.0.0.20", 6]], false],
      [[["10.0.0.5", "10.0.0.9", 0], ["10.0.0.0", "10.0.0.5", 6]], false],
      [[["10.0.0.0", "10.0.0.9", 0], ["10.0.0.2", "10.0.0.3", 255]], false],
      [[["10.0.0.5", "10.0.0.6", 0], ["10.0.0.0", "10.0.0.9", 6]], false],
      [[["10.0.0.5", "10.0.0.6", 0], ["10.0.0.0", "10.0.0.4", 6], ["10.0.0.7", "10.0.0.9", 6]], true],
      [[["10.0.0.5", "10.0.0.6", 0], ["10.0.0.8", "10.0.0.9", 0], ["10.0.0.7", "10.0.0.7", 6]], true],
      [[["10.0.0.5", "10.0.0.6", 0], ["10.0.0.8", "10.0.0.9", 0], ["10.0.0.7", "10.0.0.8", 6]], false],
      [[["0.0.0.0", "255.255.255.255", 0], ["::a00:0", "::a00:9", 6]], true],
    ] as const
  ) {
    const list = routes.map(([first, last, protocol]) => route(first, last, protocol));
    const value = concat(list.map((one) => routeBytes(one)));
    if (fine) {
      assert.deepEqual(decodeRouteAdvertisement(value), list);
      assert.deepEqual(open(encodeRouteAdvertisement(list)).value, value);
    } else {
      assert.throws(() => decodeRouteAdvertisement(value), MALFORMED, JSON.stringify(routes));
      assert.throws(() => encodeRouteAdvertisement(list), RangeError, JSON.stringify(routes));
    }
  }
});

Deno.test("the order of routes agrees with comparing every pair [RFC9484-4.7.3]", () => {
  const range = fc.tuple(fc.constantFrom<IpVersion>(4, 6), fc.nat(12), fc.nat(3), fc.constantFrom(0, 6, 17));
  const lists = fc.array(range, { maxLength: 6 }).map((list) =>
    list.map(([version, first, length, protocol]): IpRoute => ({
      range: { version, first: BigInt(first), last: BigInt(first + length) },
      protocol,
    }))
  );
  const sorted = lists.map((list) =>
    list.toSorted((a, b) =>
      a.range.version - b.range.version || a.protocol - b.protocol || Number(a.range.first - b.range.first)
    )
  );
  let fine = 0;
  fc.assert(
    fc.property(fc.oneof(lists, sorted), (list) => {
      const value = concat(list.map((one) => routeBytes(one)));
      if (list.every((b, i) => list.slice(0, i).every((a) => mayPrecede(a, b)))) {
        assert.deepEqual(decodeRouteAdvertisement(value), list);
        if (list.length > 1) fine++;
      } else assert.throws(() => decodeRouteAdvertisement(value), MALFORMED);
    }),
    { numRuns: 3_000 },
  );
  assert.ok(fine > 50, `only ${fine} lists were fine`);
});

Deno.test("encodeRouteAdvertisement() refuses what is no protocol number", () => {
  for (const protocol of [-1, 256, 0.5, NaN]) {
    assert.throws(() => encodeRouteAdvertisement([route("10.0.0.0", "10.0.0.9", protocol)]), RangeError);
  }
});

Deno.test("lists are taken up to their limits and refused one above, both ways", () => {
  const addresses = Array.from({ length: MAX_ADDRESSES + 1 }, (_, i) => address(i + 1, "10.0.0.1", 32));
  const most = open(encodeAddressRequest(addresses.slice(1))).value;
  assert.equal(decodeAddressRequest(most).length, MAX_ADDRESSES);
  assert.equal(decodeAddressAssign(most).length, MAX_ADDRESSES);
  const more = concat([most, open(encodeAddressRequest(addresses.slice(0, 1))).value]);
  assert.throws(() => decodeAddressAssign(more), TOO_MUCH);
  assert.throws(() => decodeAddressRequest(more), TOO_MUCH);
  assert.throws(() => encodeAddressAssign(addresses), RangeError);
  const routes = Array.from({ length: MAX_ROUTES + 1 }, (_, i): IpRoute => {
    const one = (0xfd00n << 112n) + BigInt(2 * i);
    return { range: { version: 6, first: one, last: one }, protocol: 0 };
  });
  const mostRoutes = open(encodeRouteAdvertisement(routes.slice(0, -1))).value;
  assert.equal(mostRoutes.length, MAX_CONNECT_IP_CAPSULE);
  assert.equal(decodeRouteAdvertisement(mostRoutes).length, MAX_ROUTES);
  assert.throws(() => decodeRouteAdvertisement(concat([mostRoutes, routeBytes(routes.at(-1)!)])), TOO_MUCH);
  assert.throws(() => encodeRouteAdvertisement(routes), RangeError);
});

Deno.test("isRefusedAddress() knows the answer that assigns nothing [RFC9484-4.7.2]", () => {
  for (
    const [entry, refused] of [
      [address(1, "0.0.0.0", 32), true],
      [address(1, "::", 128), true],
      [address(0, "0.0.0.0", 32), false],
      [address(1, "0.0.0.0", 0), false],
      [address(1, "0.0.0.1", 32), false],
      [address(1, "::", 64), false],
      [address(1, "::1", 128), false],
    ] as const
  ) {
    assert.equal(
      isRefusedAddress(entry),
      refused,
      JSON.stringify([entry.requestId, formatIp(entry.address)]),
    );
  }
});

Deno.test("assignments and requests survive the round trip", () => {
  const lists = fc.uniqueArray(fc.tuple(fc.integer({ min: 1, max: 2 ** 53 - 1 }), prefixes()), {
    selector: ([id]) => id,
    minLength: 1,
    maxLength: 20,
  }).map((list) =>
    list.map(([requestId, { version, first, length }]): AssignedAddress => ({
      requestId,
      address: { version, value: first },
      prefixLength: length,
    }))
  );
  fc.assert(fc.property(lists, (list) => {
    assert.deepEqual(decodeAddressRequest(open(encodeAddressRequest(list)).value), list);
    assert.deepEqual(decodeAddressAssign(open(encodeAddressAssign(list)).value), list);
  }));
});

Deno.test("decoders read a view in the middle of a buffer", () => {
  const list = [address(3, "192.0.2.7", 32)];
  const { value } = open(encodeAddressAssign(list));
  const bytes = concat([Uint8Array.of(9, 9, 9), value, Uint8Array.of(9)]);
  assert.deepEqual(decodeAddressAssign(bytes.subarray(3, -1)), list);
  const routes = [{ range: prefixRange(parsePrefix("10.0.0.0/8")!), protocol: 0 }];
  const shifted = concat([
    Uint8Array.of(9, 9, 9),
    open(encodeRouteAdvertisement(routes)).value,
    Uint8Array.of(9),
  ]);
  assert.deepEqual(decodeRouteAdvertisement(shifted.subarray(3, -1)), routes);
});

Deno.test("decoders throw nothing but declared errors on any bytes, and what they take they would write", () => {
  const addressCorpus = [...readCorpus("connect_ip_address").values()];
  const routeCorpus = [...readCorpus("connect_ip_route").values()];
  const any = fc.uint8Array({ maxLength: 100, size: "max" });
  const mutated = fc.tuple(fc.constantFrom(...addressCorpus, ...routeCorpus), fc.nat(99), fc.nat(255)).map(
    ([bytes, at, value]) => {
      const copy = bytes.slice();
      if (at < copy.length) copy[at] = value;
      return copy;
    },
  );
  fc.assert(
    fc.property(fc.oneof(any, mutated, fc.constantFrom(...addressCorpus, ...routeCorpus)), (bytes) => {
      assertDeclaredErrors(["ERR_PROTOCOL"], () => {
        const list = decodeAddressAssign(bytes);
        assert.deepEqual(decodeAddressAssign(open(encodeAddressAssign(list)).value), list);
      });
      assertDeclaredErrors(["ERR_PROTOCOL"], () => {
        const list = decodeAddressRequest(bytes);
        assert.deepEqual(decodeAddressRequest(open(encodeAddressRequest(list)).value), list);
      });
      assertDeclaredErrors(["ERR_PROTOCOL"], () => {
        assert.deepEqual(
          open(encodeRouteAdvertisement(decodeRouteAdvertisement(bytes))).value,
          new Uint8Array(bytes),
        );
      });
    }),
    { numRuns: 2_000 },
  );
});

function open(capsule: Uint8Array): { type: number; value: Uint8Array } {
  const reader = new CapsuleReader({ maxLength: MAX_CONNECT_IP_CAPSULE });
  reader.push(capsule);
  const one = reader.next() ?? assert.fail("no capsule");
  reader.end();
  return one;
}

function address(requestId: number, text: string, prefixLength: number): AssignedAddress {
  return { requestId, address: parseIp(text) as IpAddress, prefixLength };
}

function route(first: string, last: string, protocol: number): IpRoute {
  const [from, to] = [parseIp(first)!, parseIp(last)!];
  const range: IpRange = { version: from.version, first: from.value, last: to.value };
  return { range, protocol };
}

/** A route as it stands in a capsule, whatever the rules say about it. */
function routeBytes({ range: { version, first, last }, protocol }: IpRoute): Uint8Array<ArrayBuffer> {
  const digits = ipBits(version) / 4;
  const hex = (value: bigint) => value.toString(16).padStart(digits, "0");
  return concat([Uint8Array.of(version), fromHex(hex(first) + hex(last)), Uint8Array.of(protocol)]);
}

/** RFC 9484 §4.7.3, word for word: whether `a` may stand before `b`. */
function mayPrecede(a: IpRoute, b: IpRoute): boolean {
  if (a.range.version > b.range.version) return false;
  if (a.range.version < b.range.version) return true;
  if (a.protocol > b.protocol) return false;
  if (a.protocol === b.protocol) return a.range.last < b.range.first;
  if (a.protocol !== 0) return true;
  return a.range.last < b.range.first || b.range.last < a.range.first;
}

function prefixes() {
  return fc.constantFrom<IpVersion>(4, 6).chain((version) =>
    fc.tuple(
      fc.bigInt({ min: 0n, max: (1n << BigInt(ipBits(version))) - 1n }),
      fc.integer({ min: 0, max: ipBits(version) }),
    ).map(([value, length]) => prefixOf({ version, value }, length))
  );
}
