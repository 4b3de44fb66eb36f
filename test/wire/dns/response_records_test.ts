import assert from "node:assert/strict";
import fc from "fast-check";
import { concat } from "../../../src/base/bytes.ts";
import { formatIp } from "../../../src/base/ip.ts";
import { readDnsRecords } from "../../../src/wire/dns/response_records.ts";
import { nameBytes, query, words } from "./support.ts";

const ASKED = query("www.example.com");

Deno.test("records that are cut, or lead in circles, make a response malformed [RFC1035-4.1.4]", () => {
  const whole = response([record(Uint8Array.of(0xc0, 12), 1, [192, 0, 2, 1])]);
  for (let length = ASKED.length; length < whole.length; length++) {
    assert.equal(readDnsRecords(whole.subarray(0, length), ASKED.length), undefined, `${length}`);
  }
  const here = ASKED.length;
  const owners = [[0xc0, here], [0xc0, here + 2, 0xc0, here], [0xff, 0xff], [0xc0], [0x40, 1], [64, 1, 0]];
  for (const owner of owners) {
    const circle = response([record(Uint8Array.from(owner), 1, [192, 0, 2, 1])]);
    assert.equal(readDnsRecords(circle, ASKED.length), undefined, `${owner}`);
  }
  for (
    const [type, data] of [[1, [1, 2, 3]], [28, [1, 2, 3, 4]], [5, []], [5, [0, 0]], [39, [3, 1]]] as const
  ) {
    assert.equal(readDnsRecords(response([record(nameBytes("a"), type, data)]), ASKED.length), undefined);
  }
});

Deno.test("owners, addresses and aliases of all sections are read, pointers followed", () => {
  const alias = record(Uint8Array.of(0xc0, 12), 5, [...nameBytes("Web.Ginnel.internal")]);
  const records = [
    alias,
    record(Uint8Array.of(3, 0x78, 0x2e, 0x79, 0xc0, 16), 1, [10, 101, 0, 16]),
    record(nameBytes("web.ginnel.internal"), 28, new Array(16).fill(1)),
    record(Uint8Array.of(0), 41, []),
  ];
  const read = readDnsRecords(response(records, [1, 1, 2]), ASKED.length)!;
  assert.deepEqual(
    read.map(({ owner, alias, address }) => [owner, alias, address && formatIp(address)]),
    [
      ["www.example.com", "web.ginnel.internal", undefined],
      ["x\\046y.example.com", undefined, "10.101.0.16"],
      ["web.ginnel.internal", undefined, "101:101:101:101:101:101:101:101"],
      ["", undefined, undefined],
    ],
  );
});

Deno.test("fuzz: whatever the bytes, reading ends", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), fc.nat(0xffff), (tail, count) => {
    const bytes = concat([ASKED, tail]);
    bytes.set(words(count, 0, 0), 6);
    const read = readDnsRecords(bytes, ASKED.length);
    assert.ok(read === undefined || read.length === count);
  }));
});

function response(
  records: readonly Uint8Array[],
  counts: readonly number[] = [records.length, 0, 0],
): Uint8Array<ArrayBuffer> {
  const bytes = concat([ASKED, ...records]);
  bytes.set(words(0x8180), 2);
  bytes.set(words(...counts), 6);
  return bytes;
}

function record(owner: Uint8Array, type: number, data: readonly number[]): Uint8Array {
  return concat([owner, words(type, 1, 0, 60, data.length), Uint8Array.from(data)]);
}
