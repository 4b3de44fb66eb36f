/** Sealed records: layout, bounds, and that nothing altered, cut or out of turn is ever opened. */

import assert from "node:assert/strict";
import { createDecipheriv } from "node:crypto";
import fc from "fast-check";
import { HEADROOM } from "../../src/base/channel.ts";
import type { DirectionKey } from "../../src/dataplane/flow_keys.ts";
import {
  MAX_OPEN_DATA,
  MAX_RECORD_DATA,
  RECORD_OVERHEAD,
  RECORD_TYPE,
  RecordOpener,
  RecordSealer,
  type RecordType,
} from "../../src/dataplane/record.ts";

const KEY: DirectionKey = {
  key: Uint8Array.from({ length: 32 }, (_, i) => i),
  nonceBase: Uint8Array.from({ length: 12 }, (_, i) => 0xa0 + i),
};

Deno.test("seal() writes header, tag and ciphertext where the diagram says", () => {
  const sealer = new RecordSealer(KEY);
  seal(sealer, RECORD_TYPE.OPENED, bytes(0));
  const record = seal(sealer, RECORD_TYPE.DATA, bytes(300));
  assert.deepEqual([...record.subarray(0, 13)], [3, 0, 0, 1, 44, 0, 0, 0, 0, 0, 0, 0, 1]);
  assert.equal(record.length, RECORD_OVERHEAD + 300);
  const nonce = KEY.nonceBase.slice();
  nonce[11]! ^= 1;
  const decipher = createDecipheriv("chacha20-poly1305", KEY.key, nonce, { authTagLength: 16 });
  decipher.setAAD(record.subarray(0, 13), { plaintextLength: 300 });
  decipher.setAuthTag(record.subarray(13, 29));
  assert.deepEqual(new Uint8Array(decipher.update(record.subarray(29))), bytes(300));
  decipher.final();
});

Deno.test("RecordOpener opens what RecordSealer sealed, at every width boundary", () => {
  const [sealer, opener] = [new RecordSealer(KEY), new RecordOpener(KEY)];
  for (const size of [1, 2, 255, 256, 2_047, 2_048, 2_049, 65_535, MAX_RECORD_DATA]) {
    const record = seal(sealer, RECORD_TYPE.DATA, bytes(size));
    assert.equal(opener.push(record, 0), record.length);
    assert.equal(opener.record?.type, RECORD_TYPE.DATA);
    assert.deepEqual(opener.record.data, bytes(size));
    assert.ok(opener.record.data.byteOffset >= HEADROOM);
    assert.ok(opener.isBetweenRecords);
  }
});

Deno.test("RecordOpener joins records from chunks cut anywhere", () => {
  const part = fc.integer({ min: 1, max: 5_000 });
  fc.assert(
    fc.property(fc.array(part, { minLength: 1, maxLength: 8 }), fc.infiniteStream(part), (sizes, cuts) => {
      const [sealer, opener] = [new RecordSealer(KEY), new RecordOpener(KEY)];
      const stream = join(sizes.map((size) => seal(sealer, RECORD_TYPE.DATA, bytes(size))));
      const opened: number[] = [];
      for (let start = 0; start < stream.length;) {
        const chunk = stream.subarray(start, start + cuts.next().value!);
        for (let offset = 0; offset < chunk.length;) {
          offset = opener.push(chunk, offset);
          if (opener.record === undefined) continue;
          assert.deepEqual(opener.record.data, bytes(sizes[opened.length]!));
          opened.push(opener.record.data.length);
        }
        start += chunk.length;
      }
      assert.deepEqual(opened, sizes);
      assert.ok(opener.isBetweenRecords);
    }),
  );
});

Deno.test("RecordOpener releases nothing of a record truncated at any byte", () => {
  const record = seal(new RecordSealer(KEY), RECORD_TYPE.DATA, bytes(40));
  for (let length = 1; length < record.length; length++) {
    const opener = new RecordOpener(KEY);
    opener.push(record.subarray(0, length), 0);
    assert.equal(opener.record, undefined);
    assert.equal(opener.isBetweenRecords, false);
  }
});

Deno.test("RecordOpener refuses a record with any one bit flipped", () => {
  const record = seal(new RecordSealer(KEY), RECORD_TYPE.DATA, bytes(5));
  const codes = new Set<string>();
  for (let bit = 0; bit < record.length * 8; bit++) {
    const altered = record.slice();
    altered[bit >> 3]! ^= 1 << (bit & 7);
    const opener = new RecordOpener(KEY);
    // A longer length makes the record wait for more: give it more.
    const error = thrownBy(() => push(opener, join([altered, bytes(70_000)])));
    assert.equal(opener.record, undefined, `bit ${bit}`);
    codes.add(error.code);
  }
  assert.deepEqual(
    [...codes].sort(),
    ["ERR_RECORD_FORGED", "ERR_RECORD_MALFORMED", "ERR_RECORD_SEQUENCE", "ERR_RECORD_TOO_LONG"],
  );
});

Deno.test("RecordOpener refuses a record under another key, nonce base or direction", () => {
  const record = seal(new RecordSealer(KEY), RECORD_TYPE.DATA, bytes(5));
  const otherKey = { ...KEY, key: new Uint8Array(32) };
  const otherBase = { ...KEY, nonceBase: new Uint8Array(12) };
  for (const key of [otherKey, otherBase]) {
    assert.equal(thrownBy(() => push(new RecordOpener(key), record)).code, "ERR_RECORD_FORGED");
  }
});

Deno.test("RecordOpener refuses records lost, repeated or swapped", () => {
  const sealer = new RecordSealer(KEY);
  const records = [1, 2, 3].map((size) => seal(sealer, RECORD_TYPE.DATA, bytes(size)));
  for (const order of [[1], [0, 0], [0, 2], [0, 1, 0], [1, 0]]) {
    const error = thrownBy(() => push(new RecordOpener(KEY), join(order.map((i) => records[i]!))));
    assert.equal(error.code, "ERR_RECORD_SEQUENCE", `order ${order}`);
  }
});

Deno.test("RecordOpener judges a header before the record's bytes arrive", () => {
  const cases: readonly [code: string, type: number, flags: number, length: number, sequence: bigint][] = [
    ["ERR_RECORD_MALFORMED", 0, 0, 1, 0n],
    ["ERR_RECORD_MALFORMED", 6, 0, 1, 0n],
    ["ERR_RECORD_MALFORMED", RECORD_TYPE.DATA, 1, 1, 0n],
    ["ERR_RECORD_MALFORMED", RECORD_TYPE.DATA, 0, 0, 0n],
    ["ERR_RECORD_MALFORMED", RECORD_TYPE.RESET, 0, 0, 0n],
    ["ERR_RECORD_TOO_LONG", RECORD_TYPE.RESET, 0, 2, 0n],
    ["ERR_RECORD_TOO_LONG", RECORD_TYPE.FIN, 0, 1, 0n],
    ["ERR_RECORD_TOO_LONG", RECORD_TYPE.OPENED, 0, 1, 0n],
    ["ERR_RECORD_TOO_LONG", RECORD_TYPE.OPEN, 0, MAX_OPEN_DATA + 1, 0n],
    ["ERR_RECORD_TOO_LONG", RECORD_TYPE.DATA, 0, MAX_RECORD_DATA + 1, 0n],
    ["ERR_RECORD_TOO_LONG", RECORD_TYPE.DATA, 0, 0xffffff, 0n],
    ["ERR_RECORD_SEQUENCE", RECORD_TYPE.DATA, 0, 1, 1n],
    ["ERR_RECORD_SEQUENCE", RECORD_TYPE.DATA, 0, 1, 1n << 32n],
    ["ERR_RECORD_SEQUENCE", RECORD_TYPE.DATA, 0, 1, (1n << 64n) - 1n],
  ];
  for (const [code, type, flags, length, sequence] of cases) {
    const header = new Uint8Array(13);
    header.set([type, flags, length >> 16, length >> 8, length]);
    new DataView(header.buffer).setBigUint64(5, sequence);
    assert.equal(thrownBy(() => push(new RecordOpener(KEY), header)).code, code, `${type} ${length}`);
  }
});

Deno.test("RecordOpener survives arbitrary bytes with one of its own errors", () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (garbage) => {
    const opener = new RecordOpener(KEY);
    try {
      push(opener, garbage);
    } catch (error) {
      assert.match((error as { code: string }).code, /^ERR_RECORD_/);
    }
    assert.equal(opener.record, undefined);
  }));
});

function seal(sealer: RecordSealer, type: RecordType, plaintext: Uint8Array): Uint8Array<ArrayBuffer> {
  const target = new Uint8Array(RECORD_OVERHEAD + plaintext.length + 7);
  const end = sealer.seal(type, plaintext, { target, offset: 7 });
  assert.equal(end, target.length);
  return target.slice(7);
}

function push(opener: RecordOpener, chunk: Uint8Array): void {
  for (let offset = 0; offset < chunk.length;) offset = opener.push(chunk, offset);
}

function bytes(length: number): Uint8Array<ArrayBuffer> {
  return Uint8Array.from({ length }, (_, i) => i * 7);
}

function join(parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  return new Uint8Array(parts.flatMap((part) => [...part]));
}

function thrownBy(action: () => void): { readonly code: string } {
  try {
    action();
  } catch (error) {
    return error as { code: string };
  }
  throw new assert.AssertionError({ message: "Expected an error" });
}
