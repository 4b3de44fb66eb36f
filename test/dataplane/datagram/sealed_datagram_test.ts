/** Sealed datagrams: what opens, and everything that must not. */

import assert from "node:assert/strict";
import { createDecipheriv } from "node:crypto";
import fc from "fast-check";
import {
  DatagramOpener,
  DatagramSealer,
  MAX_COUNTER,
  SEALED_DATAGRAM_HEADROOM,
  SEALED_DATAGRAM_OVERHEAD,
} from "../../../src/dataplane/datagram/sealed_datagram.ts";
import { REPLAY_WINDOW_SIZE } from "../../../src/dataplane/replay_window.ts";

const KEY = { key: new Uint8Array(32).fill(7), nonceBase: new Uint8Array(12).fill(9) };
const OTHER_KEY = { ...KEY, key: new Uint8Array(32).fill(8) };
const OTHER_NONCE = { ...KEY, nonceBase: new Uint8Array(12).fill(8) };

function sealing(key = KEY, first = 0): (payload: Uint8Array) => Uint8Array<ArrayBuffer> {
  const sealer = new DatagramSealer(key, first);
  return (payload) => {
    const end = sealer.seal(payload);
    return sealer.buffer.slice(SEALED_DATAGRAM_HEADROOM, end);
  };
}

Deno.test("a sealed datagram is its counter, the ciphertext under the nonce that counts, and the tag", () => {
  const seal = sealing(KEY, 0x01020304);
  seal(new Uint8Array(0));
  const sealed = seal(Uint8Array.of(1, 2, 3));
  assert.equal(sealed.length, 3 + SEALED_DATAGRAM_OVERHEAD);
  assert.deepEqual([...sealed.subarray(0, 8)], [0, 0, 0, 0, 1, 2, 3, 5]);
  const nonce = Uint8Array.of(9, 9, 9, 9, 9, 9, 9, 9, 9 ^ 1, 9 ^ 2, 9 ^ 3, 9 ^ 5);
  const decipher = createDecipheriv("chacha20-poly1305", KEY.key, nonce, { authTagLength: 16 });
  decipher.setAuthTag(sealed.subarray(11));
  assert.deepEqual([...decipher.update(sealed.subarray(8, 11))], [1, 2, 3]);
  decipher.final();
});

Deno.test("what was sealed opens, in any order and of any length, once", () => {
  fc.assert(fc.property(
    fc.array(fc.uint8Array({ maxLength: 3_000 }), { minLength: 1, maxLength: 20 }),
    fc.infiniteStream(fc.nat()),
    (payloads, random) => {
      const seal = sealing();
      const sealed = payloads.map((payload) => ({
        payload,
        bytes: seal(payload),
        rank: random.next().value!,
      }));
      const opener = new DatagramOpener(KEY);
      for (const { payload, bytes } of sealed.sort((a, b) => a.rank - b.rank)) {
        const copy = bytes.slice();
        assert.deepEqual(opener.open(bytes), payload);
        assert.equal(opener.open(bytes), "replayed");
        assert.deepEqual(bytes, copy);
      }
    },
  ));
});

Deno.test("a payload is a plain array, whose slice is a copy", () => {
  const payload = new DatagramOpener(KEY).open(sealing()(Uint8Array.of(1, 2, 3)));
  assert.ok(typeof payload !== "string");
  const copy = payload.slice();
  payload.fill(0);
  assert.deepEqual(copy, Uint8Array.of(1, 2, 3));
});

Deno.test("a datagram altered in any bit, cut or lengthened does not open, and costs the good one nothing", () => {
  const good = sealing()(Uint8Array.of(1, 2, 3, 4));
  const opener = new DatagramOpener(KEY);
  for (let bit = 0; bit < good.length * 8; bit++) {
    const bad = good.slice();
    bad[bit >> 3]! ^= 1 << (bit & 7);
    assert.equal(opener.open(bad), bit < 32 ? "malformed" : "forged", `bit ${bit}`);
  }
  for (let length = 0; length < good.length; length++) {
    const expected = length < SEALED_DATAGRAM_OVERHEAD ? "malformed" : "forged";
    assert.equal(opener.open(good.slice(0, length)), expected, `${length} bytes`);
  }
  assert.equal(opener.open(Uint8Array.of(...good, 0)), "forged");
  assert.deepEqual(opener.open(good), Uint8Array.of(1, 2, 3, 4));
});

Deno.test("another flow's or direction's datagram does not open", () => {
  const sealed = sealing()(Uint8Array.of(1));
  for (const key of [OTHER_KEY, OTHER_NONCE]) assert.equal(new DatagramOpener(key).open(sealed), "forged");
});

Deno.test("what is older than the window counts as seen; a forged counter does not move the window", () => {
  const seal = sealing();
  const first = seal(Uint8Array.of(1));
  const second = seal(Uint8Array.of(2));
  const opener = new DatagramOpener(KEY);
  const ahead = first.slice();
  ahead.set([0xff, 0xff, 0xff, 0xff], 4);
  assert.equal(opener.open(ahead), "forged");
  assert.deepEqual(opener.open(second), Uint8Array.of(2));
  const jump = sealing(KEY, REPLAY_WINDOW_SIZE)(Uint8Array.of(3));
  assert.deepEqual(opener.open(jump), Uint8Array.of(3));
  assert.equal(opener.open(first), "replayed");
  assert.equal(opener.open(second), "replayed");
});

Deno.test("the counter never comes round", () => {
  const seal = sealing(KEY, MAX_COUNTER - 1);
  const last = seal(Uint8Array.of(1));
  assert.deepEqual([...last.subarray(0, 8)], [0, 0, 0, 0, 255, 255, 255, 255]);
  assert.deepEqual(new DatagramOpener(KEY).open(last), Uint8Array.of(1));
  for (let i = 0; i < 2; i++) assert.throws(() => seal(Uint8Array.of(1)), { code: "ERR_SESSION_CLOSED" });
});

Deno.test("arbitrary bytes never open", () => {
  const opener = new DatagramOpener(KEY);
  fc.assert(fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => {
    assert.ok(["malformed", "forged"].includes(opener.open(bytes) as string));
  }));
});
