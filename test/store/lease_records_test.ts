import assert from "node:assert/strict";
import fc from "fast-check";
import type { Lease } from "../../src/core/ipam.ts";
import { applyRecords, formatRecord, type LeaseRecord, parseRecords } from "../../src/store/lease_records.ts";

const time = fc.integer({ min: 0, max: 4_102_444_800_000 });
const anyLease: fc.Arbitrary<Lease> = fc.record({
  identity: fc.string({ minLength: 1, maxLength: 30, unit: "binary" }),
  ipv4: fc.option(fc.bigInt(0n, (1n << 32n) - 1n).map((value) => ({ version: 4 as const, value }))),
  ipv6: fc.option(fc.bigInt(0n, (1n << 128n) - 1n).map((value) => ({ version: 6 as const, value }))),
  since: time,
  lastSeen: time,
}, { noNullPrototype: true });
const anyRecord: fc.Arbitrary<LeaseRecord> = fc.oneof(
  anyLease.map((lease) => ({ op: "lease" as const, lease })),
  anyLease.map(({ identity }) => ({ op: "release" as const, identity })),
);

Deno.test("any records come back as they were written", () => {
  fc.assert(
    fc.property(fc.array(anyRecord), (records) => {
      assert.deepEqual(parseRecords(records.map(formatRecord).join("")), { records, damaged: 0 });
    }),
  );
});

Deno.test("any text is read without a fault, and every line of it is a record or damaged", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), anyRecord, fc.nat(), (noise, record, cut) => {
      const line = formatRecord(record);
      const torn = line.slice(0, cut % line.length);
      for (const text of [noise, torn + noise, `${noise}\n${line}`]) {
        const { records, damaged } = parseRecords(text);
        assert.equal(records.length + damaged, text.split("\n").filter((each) => each !== "").length);
      }
      assert.deepEqual(parseRecords(`${noise}\n${line}`).records.at(-1), record);
    }),
  );
});

Deno.test("a line with one wrong field is damaged, its neighbour without is not", () => {
  const right = {
    op: "lease",
    identity: "spiffe://t/agent/a",
    ipv4: "10.0.0.2",
    ipv6: null,
    since: "2026-01-01T00:00:00.000Z",
    lastSeen: "2026-01-01T00:00:00.000Z",
  };
  const rows: [string, object][] = [
    ["unknown op", { op: "grant" }],
    ["no op", { op: undefined }],
    ["empty identity", { identity: "" }],
    ["identity of another type", { identity: 7 }],
    ["endless identity", { identity: "x".repeat(2049) }],
    ["no IPv4 field", { ipv4: undefined }],
    ["IPv6 as IPv4", { ipv4: "fd00::1" }],
    ["IPv4 as IPv6", { ipv6: "10.0.0.2" }],
    ["no address", { ipv4: "10.0.0" }],
    ["address as a number", { ipv4: 167772162 }],
    ["no time", { since: undefined }],
    ["time as a number", { lastSeen: 5 }],
    ["time that is none", { lastSeen: "yesterday" }],
  ];
  assert.equal(parseRecords(JSON.stringify(right)).records.length, 1);
  for (const [name, change] of rows) {
    const text = `${JSON.stringify({ ...right, ...change })}\n${JSON.stringify({ ...right, more: 1 })}\n`;
    const { records, damaged } = parseRecords(text);
    assert.deepEqual([records.length, damaged], [1, 1], name);
  }
});

Deno.test("the last record about an identity holds", () => {
  const one = { identity: "a", ipv4: null, ipv6: null, since: 0, lastSeen: 1 };
  const leases = new Map<string, Lease>();
  applyRecords(leases, [
    { op: "lease", lease: one },
    { op: "release", identity: "b" },
    { op: "lease", lease: { ...one, lastSeen: 5 } },
    { op: "lease", lease: { ...one, identity: "c" } },
    { op: "release", identity: "c" },
  ]);
  assert.deepEqual([...leases.values()], [{ ...one, lastSeen: 5 }]);
});
