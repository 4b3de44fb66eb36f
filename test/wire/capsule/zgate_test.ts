import assert from "node:assert/strict";
import fc from "fast-check";
import { concat, fromHex, toHex } from "../../../src/base/bytes.ts";
import { parseIp } from "../../../src/base/ip.ts";
import {
  ADDRESS_ASSIGN,
  type AssignedAddress,
  encodeAddressAssign,
  MAX_ADDRESSES,
} from "../../../src/wire/capsule/connect_ip.ts";
import {
  decodeZgateAddressAssign,
  encodeZgateAddressAssign,
  IP_PACKET,
} from "../../../src/wire/capsule/zgate.ts";
import { H3_MESSAGE_ERROR } from "../../../src/wire/h3/codes.ts";
import { assertDeclaredErrors, readCorpus } from "../corpus.ts";

const MALFORMED = { code: "ERR_PROTOCOL", scope: "stream", wireCode: H3_MESSAGE_ERROR };

Deno.test("decodeZgateAddressAssign() refuses a count that is not that of the addresses", () => {
  const one = "00 04 0a640002 20";
  assert.equal(decodeZgateAddressAssign(fromHex(`01 ${one}`)).length, 1);
  for (
    const value of [
      `00 ${one}`,
      `02 ${one}`,
      `01 ${one} ${one}`,
      "01",
      `c000000100000001 ${one}`,
      `ffffffffffffffff ${one}`,
      "",
      "40",
      "c0000000",
    ]
  ) {
    assert.throws(() => decodeZgateAddressAssign(fromHex(value)), MALFORMED, value);
  }
});

Deno.test("decodeZgateAddressAssign() refuses a value cut at any byte, and a byte too many", () => {
  const value = encodeZgateAddressAssign([assigned("10.100.0.2", 32), assigned("2001:db8::1", 64)]).subarray(
    2,
  );
  assert.equal(decodeZgateAddressAssign(value).length, 2);
  for (let cut = 0; cut < value.length; cut++) {
    assert.throws(() => decodeZgateAddressAssign(value.subarray(0, cut)), MALFORMED, `cut at ${cut}`);
  }
  assert.throws(() => decodeZgateAddressAssign(concat([value, Uint8Array.of(0)])), MALFORMED);
});

Deno.test("decodeZgateAddressAssign() refuses what RFC 9484 writes", () => {
  const list = [{ ...assigned("10.100.0.2", 32), requestId: 3 }];
  assert.throws(() => decodeZgateAddressAssign(encodeAddressAssign(list).subarray(2)), MALFORMED);
});

Deno.test("the dialect's capsules have the layout its programs write", () => {
  assert.equal(
    toHex(encodeZgateAddressAssign([assigned("10.100.0.2", 32)])),
    "0108" + "01" + "00" + "04" + "0a640002" + "20",
  );
  assert.equal(toHex(encodeZgateAddressAssign([])), "010100");
  assert.equal(ADDRESS_ASSIGN, 1);
  assert.equal(IP_PACKET, 0x40);
});

Deno.test("assignments of the dialect keep their host bits", () => {
  const list = [assigned("10.100.0.2", 24), assigned("2001:db8::1", 64)];
  assert.deepEqual(decodeZgateAddressAssign(encodeZgateAddressAssign(list).subarray(2)), list);
});

Deno.test("assignments of the dialect have the same limits", () => {
  const list = Array.from({ length: MAX_ADDRESSES }, () => assigned("10.100.0.2", 32));
  const capsule = encodeZgateAddressAssign(list);
  assert.equal(decodeZgateAddressAssign(capsule.subarray(3)).length, MAX_ADDRESSES);
  assert.throws(() => encodeZgateAddressAssign([...list, assigned("10.100.0.2", 32)]), RangeError);
  assert.throws(() => encodeZgateAddressAssign([assigned("10.100.0.2", 33)]), RangeError);
});

Deno.test("decodeZgateAddressAssign() throws nothing but declared errors on any bytes", () => {
  const corpus = [...readCorpus("connect_ip_address").values()];
  const counted = fc.tuple(fc.nat(70), fc.constantFrom(...corpus)).map(([count, rest]) =>
    concat([Uint8Array.of(count), rest])
  );
  fc.assert(fc.property(fc.oneof(fc.uint8Array(), fc.constantFrom(...corpus), counted), (bytes) => {
    assertDeclaredErrors(["ERR_PROTOCOL"], () => {
      const list = decodeZgateAddressAssign(bytes);
      const capsule = encodeZgateAddressAssign(list);
      assert.equal(list.length, decodeZgateAddressAssign(capsule.subarray(capsule[1]! < 64 ? 2 : 3)).length);
    });
  }));
});

function assigned(text: string, prefixLength: number): AssignedAddress {
  return { requestId: 0, address: parseIp(text)!, prefixLength };
}
