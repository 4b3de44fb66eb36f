/** An implementation that is not right is not used. */

import assert from "node:assert/strict";
import { NODE_CIPHER } from "../../../src/dataplane/datagram/datagram_cipher.ts";
import { datagramCipher, proven } from "../../../src/modes/shared/datagram_cipher.ts";

Deno.test("a cipher that seals otherwise, opens what was altered, or fails, is not chosen", () => {
  assert.equal(proven(undefined), undefined);
  assert.equal(proven(NODE_CIPHER), NODE_CIPHER);
  assert.equal(proven({ ...NODE_CIPHER, seal: (_keys, payload, target) => target.set(payload) }), undefined);
  assert.equal(proven({ ...NODE_CIPHER, open: (_keys, sealed) => sealed.slice(0, -16) }), undefined);
  const fails = () => {
    throw new Error("no such cipher");
  };
  assert.equal(proven({ ...NODE_CIPHER, seal: fails }), undefined);
});

Deno.test("what is chosen is chosen once", () => {
  assert.equal(datagramCipher(), datagramCipher());
});
