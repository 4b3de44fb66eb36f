import assert from "node:assert/strict";
import { STATIC_TABLE, staticFieldIndex, staticNameIndex } from "../../../src/wire/qpack/static_table.ts";

Deno.test("the static table has the RFC's 99 entries at their places [RFC9204-3.1]", () => {
  assert.equal(STATIC_TABLE.length, 99);
  // One entry of every run of the appendix: a slip anywhere shifts a later one.
  const samples = new Map([
    [0, ":authority="],
    [1, ":path=/"],
    [14, "set-cookie="],
    [15, ":method=CONNECT"],
    [21, ":method=PUT"],
    [23, ":scheme=https"],
    [28, ":status=503"],
    [35, "access-control-allow-origin=*"],
    [41, "cache-control=public, max-age=31536000"],
    [46, "content-type=application/json"],
    [54, "content-type=text/plain;charset=utf-8"],
    [62, "x-xss-protection=1; mode=block"],
    [63, ":status=100"],
    [71, ":status=500"],
    [74, "access-control-allow-credentials=TRUE"],
    [84, "authorization="],
    [98, "x-frame-options=sameorigin"],
  ]);
  for (const [index, field] of samples) assert.equal(STATIC_TABLE[index]?.join("="), field);
});

Deno.test("staticFieldIndex() and staticNameIndex() find every entry and nothing else", () => {
  for (const [index, [name, value]] of STATIC_TABLE.entries()) {
    assert.equal(staticFieldIndex(name, value), index);
    assert.equal(STATIC_TABLE[staticNameIndex(name)]?.[0], name);
  }
  assert.equal(staticFieldIndex(":method", "PATCH"), -1);
  assert.equal(staticNameIndex(":method"), 15);
  assert.equal(staticNameIndex(":protocol"), -1);
  assert.equal(staticFieldIndex("__proto__", ""), -1);
});
