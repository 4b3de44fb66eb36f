import assert from "node:assert/strict";
import * as codes from "../../../src/wire/h3/codes.ts";
import { readVectors } from "../corpus.ts";

Deno.test("code points are those of the registry", () => {
  const registry = readVectors<readonly [name: string, code: string]>("rfc9114/codes.json").vectors;
  for (const [name, code] of registry) assert.equal(Object(codes)[name], Number(code), name);
});

Deno.test("code points of one kind are all different", () => {
  for (const kind of [/^(H3|QPACK|WT)_/, /^SETTINGS_/, /^FRAME_/, /^STREAM_/]) {
    const values = Object.entries(codes).filter(([name]) => kind.test(name)).map(([, value]) => value);
    assert.ok(values.length > 4);
    assert.equal(new Set(values).size, values.length);
  }
});
