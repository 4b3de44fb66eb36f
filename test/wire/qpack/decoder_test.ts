import assert from "node:assert/strict";
import fc from "fast-check";
import { concat, fromHex, toHex } from "../../../src/base/bytes.ts";
import { QPACK_DECOMPRESSION_FAILED } from "../../../src/wire/h3/codes.ts";
import { decodeFieldSection, FIELD_OVERHEAD } from "../../../src/wire/qpack/decoder.ts";
import { encodeFieldSection } from "../../../src/wire/qpack/encoder.ts";
import type { Field } from "../../../src/wire/qpack/static_table.ts";
import { assertDeclaredErrors, readCorpus, readVectors } from "../corpus.ts";

const LIMIT = { maxFieldSectionSize: 16_384 };
const REFUSED = { code: "ERR_PROTOCOL", scope: "connection", wireCode: QPACK_DECOMPRESSION_FAILED };
const DECLARED = ["ERR_PROTOCOL", "ERR_FIELD_SECTION_TOO_LARGE"];

interface Vector {
  readonly hex: string;
  readonly fields: readonly Field[];
}

Deno.test("decodeFieldSection() reads the RFC's example and another encoder's sections", () => {
  for (const file of ["rfc9204/field_sections.json", "rfc9204/interop_sections.json"]) {
    for (const { hex, fields } of readVectors<Vector>(file).vectors) {
      assert.deepEqual(decodeFieldSection(fromHex(hex), LIMIT), fields);
    }
  }
});

Deno.test("field sections survive the round trip at every length boundary", () => {
  for (const length of [0, 1, 6, 7, 8, 126, 127, 128, 254, 255, 4095, 4096, 4097, 7000]) {
    for (const character of ["a", "{", "\u0000", "\u00ff"]) {
      const fields: Field[] = [["x".repeat(length), character.repeat(length)], [":path", "/"]];
      assert.deepEqual(decodeFieldSection(encodeFieldSection(fields), LIMIT), fields);
    }
  }
});

Deno.test("field sections of any byte strings survive the round trip", () => {
  const text = fc.array(fc.integer({ min: 0, max: 255 }), { maxLength: 40, size: "max" }).map((bytes) =>
    String.fromCharCode(...bytes)
  );
  const name = fc.oneof(text, fc.constantFrom(":path", ":status", "authorization", "cookie"));
  fc.assert(fc.property(fc.array(fc.tuple(name, text), { maxLength: 12 }), (fields) => {
    assert.deepEqual(decodeFieldSection(encodeFieldSection(fields), LIMIT), fields);
  }));
});

Deno.test("decodeFieldSection() refuses references to a dynamic table [RFC9204-2.2.3] [RFC9204-3.2.6]", () => {
  const references = {
    indexed: "000080",
    "indexed, longer index": "0000bf00",
    "name reference": "0000400161",
    "post-base index": "000010",
    "post-base name": "0000000161",
  };
  for (const [what, hex] of Object.entries(references)) {
    assert.throws(() => decodeFieldSection(fromHex(hex), LIMIT), REFUSED, what);
  }
});

Deno.test("decodeFieldSection() refuses a required insert count other than 0 [RFC9204-4.5.1.1]", () => {
  assert.throws(() => decodeFieldSection(fromHex("0100d9"), LIMIT), REFUSED);
  assert.throws(() => decodeFieldSection(fromHex("ff0000d9"), LIMIT), REFUSED);
});

Deno.test("decodeFieldSection() refuses a negative Base and takes any other [RFC9204-4.5.1.2]", () => {
  assert.throws(() => decodeFieldSection(fromHex("0080d9"), LIMIT), REFUSED);
  assert.deepEqual(decodeFieldSection(fromHex("0005d9"), LIMIT), [[":status", "200"]]);
  assert.deepEqual(decodeFieldSection(fromHex("007f80 01d9"), LIMIT), [[":status", "200"]]);
});

Deno.test("decodeFieldSection() refuses static index 99 and knows 98 [RFC9204-3.1]", () => {
  assert.deepEqual(decodeFieldSection(fromHex("0000ff23"), LIMIT), [["x-frame-options", "sameorigin"]]);
  assert.throws(() => decodeFieldSection(fromHex("0000ff24"), LIMIT), REFUSED);
  assert.throws(() => decodeFieldSection(fromHex("00005f540161"), LIMIT), REFUSED);
});

Deno.test("decodeFieldSection() refuses a section cut at any offset inside a field", () => {
  const fields: Field[] = [[":path", "/x"], ["capsule-protocol", "?1"], ["x".repeat(300), "{".repeat(300)]];
  const whole = encodeFieldSection(fields);
  const ends = new Set(fields.map((_, i) => encodeFieldSection(fields.slice(0, i)).length));
  for (let cut = 0; cut < whole.length; cut++) {
    const bytes = whole.subarray(0, cut);
    if (ends.has(cut)) assert.ok(decodeFieldSection(bytes, LIMIT).length < fields.length);
    else assert.throws(() => decodeFieldSection(bytes, LIMIT), REFUSED, `cut at ${cut}`);
  }
});

Deno.test("decodeFieldSection() refuses a trailing byte", () => {
  const bytes = concat([encodeFieldSection([[":path", "/x"]]), Uint8Array.of(0x51)]);
  assert.throws(() => decodeFieldSection(bytes, LIMIT), REFUSED);
});

Deno.test("decodeFieldSection() refuses a declared length that is not there, however large", () => {
  for (const hex of ["0000 51 7f ffffffffffffffff3f", "0000 51 ff ffffffffffffffff3f", "0000 27 ffffff7f"]) {
    assert.throws(() => decodeFieldSection(fromHex(hex), LIMIT), REFUSED, hex);
  }
});

Deno.test("decodeFieldSection() counts 32 bytes per line and stops at the limit [RFC9114-4.2.2]", () => {
  const fields: Field[] = [["abc", "{".repeat(10)], [":status", "200"], [":path", "/xy"]];
  const size = fields.reduce((sum, [name, value]) => sum + name.length + value.length + FIELD_OVERHEAD, 0);
  const bytes = encodeFieldSection(fields);
  assert.equal(decodeFieldSection(bytes, { maxFieldSectionSize: size }).length, 3);
  assert.throws(() => decodeFieldSection(bytes, { maxFieldSectionSize: size - 1 }), {
    code: "ERR_FIELD_SECTION_TOO_LARGE",
  });
});

Deno.test("decodeFieldSection() bounds one-byte lines that expand to many", () => {
  const bytes = new Uint8Array(16_384).fill(0xd9, 2);
  assert.throws(() => decodeFieldSection(bytes, LIMIT), { code: "ERR_FIELD_SECTION_TOO_LARGE" });
});

Deno.test("decodeFieldSection() throws nothing but declared errors on its corpus", () => {
  for (const [name, bytes] of readCorpus("qpack_decoder")) {
    assertDeclaredErrors(DECLARED, () => {
      const fields = decodeFieldSection(bytes, LIMIT);
      assert.deepEqual(decodeFieldSection(encodeFieldSection(fields), LIMIT), fields, name);
    });
  }
});

Deno.test("decodeFieldSection() throws nothing but declared errors on any bytes", () => {
  const seeds = [...readCorpus("qpack_decoder").values()];
  const random = fc.uint8Array({ maxLength: 200, size: "max" }).map((tail) =>
    concat([Uint8Array.of(0, 0), tail])
  );
  const mutated = fc.tuple(fc.constantFrom(...seeds), fc.nat(), fc.nat(255)).map(([seed, at, byte]) => {
    const copy = seed.slice();
    if (copy.length > 0) copy[at % copy.length] = byte;
    return copy;
  });
  fc.assert(
    fc.property(fc.oneof(random, mutated, fc.uint8Array()), (bytes) => {
      assertDeclaredErrors(DECLARED, () => {
        const fields = decodeFieldSection(bytes, LIMIT);
        assert.deepEqual(decodeFieldSection(encodeFieldSection(fields), LIMIT), fields, toHex(bytes));
      });
    }),
    { numRuns: 2000 },
  );
});
