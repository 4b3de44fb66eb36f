/** SHA-256 against the published values. */

import assert from "node:assert/strict";
import { sha256Hex } from "../../src/base/sha256.ts";

Deno.test("the hash of known texts", () => {
  assert.equal(sha256Hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  assert.equal(sha256Hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
});

Deno.test("text is hashed as UTF-8", async () => {
  const bytes = new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode("Ærø ✓")));
  assert.equal(sha256Hex("Ærø ✓"), bytes.toHex());
});
