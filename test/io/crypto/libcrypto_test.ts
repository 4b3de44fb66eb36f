/** The machine's OpenSSL does what the runtime does, and opens nothing else. */

import assert from "node:assert/strict";
import fc from "fast-check";
import {
  type CipherKeys,
  type DatagramCipher,
  NODE_CIPHER,
  TAG_LENGTH,
} from "../../../src/dataplane/datagram/datagram_cipher.ts";
import {
  DatagramOpener,
  DatagramSealer,
  SEALED_DATAGRAM_HEADROOM,
} from "../../../src/dataplane/datagram/sealed_datagram.ts";
import { openLibcrypto } from "../../../src/io/crypto/libcrypto.ts";

const KEYS: CipherKeys = { key: new Uint8Array(32).fill(7), nonce: new Uint8Array(12).fill(9) };

function libcrypto(): DatagramCipher {
  const cipher = openLibcrypto();
  assert.ok(cipher, "this machine has an OpenSSL");
  return cipher;
}

function seal(cipher: DatagramCipher, payload: Uint8Array, keys = KEYS): Uint8Array {
  const sealed = new Uint8Array(payload.length + TAG_LENGTH);
  cipher.seal(keys, payload, sealed);
  return sealed;
}

Deno.test("the ciphertext and tag of the standard's own example [RFC8439-2.8]", () => {
  // RFC 8439 appendix A.5 has additional data; this is the keystream of its §2.4.2, and a tag made by the runtime.
  const keys = {
    key: new Uint8Array(32).map((_, index) => index),
    nonce: Uint8Array.fromHex("000000000000004a00000000"),
  };
  const text = new TextEncoder().encode(
    "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.",
  );
  const sealed = seal(libcrypto(), text, keys);
  assert.equal(sealed.toHex().slice(0, 32), "6e2e359a2568f98041ba0728dd0d6981");
  assert.deepEqual(sealed, seal(NODE_CIPHER, text, keys));
});

Deno.test("payloads of every size are sealed as the runtime seals them, and each opens the other's", () => {
  const cipher = libcrypto();
  const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length });
  fc.assert(fc.property(fc.uint8Array({ maxLength: 3_000 }), bytes(32), bytes(12), (payload, key, nonce) => {
    const keys = { key, nonce };
    const sealed = seal(cipher, payload, keys);
    assert.deepEqual(sealed, seal(NODE_CIPHER, payload, keys));
    assert.deepEqual(cipher.open(keys, sealed), payload);
    assert.deepEqual(NODE_CIPHER.open(keys, sealed), payload);
  }));
  const largest = new Uint8Array(65_507).fill(3);
  assert.deepEqual(cipher.open(KEYS, seal(NODE_CIPHER, largest)), largest);
});

Deno.test("one altered bit, another key, another nonce, a cut: nothing opens, and what is right still does", () => {
  const cipher = libcrypto();
  const payload = Uint8Array.of(1, 2, 3, 4);
  const sealed = seal(cipher, payload);
  for (let bit = 0; bit < sealed.length * 8; bit++) {
    const altered = sealed.slice();
    altered[bit >> 3]! ^= 1 << (bit & 7);
    assert.equal(cipher.open(KEYS, altered), undefined, `bit ${bit}`);
  }
  for (let length = 0; length < sealed.length; length++) {
    assert.equal(cipher.open(KEYS, sealed.subarray(0, length)), undefined, `${length} bytes`);
  }
  assert.equal(cipher.open({ ...KEYS, key: new Uint8Array(32) }, sealed), undefined);
  assert.equal(cipher.open({ ...KEYS, nonce: new Uint8Array(12) }, sealed), undefined);
  assert.deepEqual(cipher.open(KEYS, sealed), payload);
});

Deno.test("a target or key of another size is an error, not memory that is written", () => {
  const cipher = libcrypto();
  const payload = new Uint8Array(100);
  for (const size of [0, 100, 115, 117]) {
    assert.throws(() => cipher.seal(KEYS, payload, new Uint8Array(size)), /did not seal/);
  }
  assert.throws(() => seal(cipher, payload, { ...KEYS, key: new Uint8Array(16) }), /did not seal/);
  assert.throws(() => seal(cipher, payload, { ...KEYS, nonce: new Uint8Array(8) }), /did not seal/);
  assert.equal(cipher.open(KEYS, new Uint8Array(65_536 + TAG_LENGTH + 1)), undefined);
});

Deno.test("datagrams sealed by one implementation open by the other", () => {
  const key = { key: KEYS.key.slice(), nonceBase: KEYS.nonce.slice() };
  const ciphers = [libcrypto(), NODE_CIPHER];
  for (const [from, to] of [ciphers, ciphers.toReversed()]) {
    const sealer = new DatagramSealer(key, { cipher: from! }),
      opener = new DatagramOpener(key, { cipher: to! });
    for (const size of [0, 1, 1_200]) {
      const payload = new Uint8Array(size).fill(size);
      const end = sealer.seal(payload);
      const sealed = sealer.buffer.slice(SEALED_DATAGRAM_HEADROOM, end);
      assert.deepEqual(opener.open(sealed), payload);
      assert.equal(opener.open(sealed), "replayed");
    }
  }
});
