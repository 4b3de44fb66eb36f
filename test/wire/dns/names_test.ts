import assert from "node:assert/strict";
import fc from "fast-check";
import { readDnsName, writeDnsName } from "../../../src/wire/dns/names.ts";
import { nameBytes } from "./support.ts";

Deno.test("names that cannot be written are not", () => {
  assert.deepEqual(writeDnsName("web.ginnel.internal"), nameBytes("web.ginnel.internal"));
  assert.deepEqual(writeDnsName(""), Uint8Array.of(0));
  for (
    const text of [
      ".",
      "a..b",
      "a.",
      ".a",
      "a b",
      "a\\046b",
      "\u00e9",
      "a".repeat(64),
      "a.".repeat(127) + "a",
    ]
  ) {
    assert.equal(writeDnsName(text), undefined, text);
  }
  assert.equal(writeDnsName("a.".repeat(126) + "a")!.length, 255);
});

Deno.test("host names come back as they were written, wherever they stand", () => {
  const label = fc.stringMatching(/^[a-z0-9_-]{1,20}$/);
  fc.assert(fc.property(fc.array(label, { minLength: 1, maxLength: 8 }), fc.nat(20), (labels, offset) => {
    const text = labels.join(".");
    const bytes = new Uint8Array(offset + text.length + 2 + 3);
    bytes.set(writeDnsName(text)!, offset);
    assert.deepEqual(readDnsName(bytes, offset), { text, end: offset + text.length + 2 });
  }));
});
