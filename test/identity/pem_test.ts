/** PEM and base64: round trips, and nothing read from text that is not exactly that. */

import assert from "node:assert/strict";
import fc from "fast-check";
import { decodeBase64, decodePem, encodeBase64, encodePem } from "../../src/identity/pem.ts";

const MALFORMED = { code: "ERR_CERT_MALFORMED" };

Deno.test("decodePem() gives back what encodePem() armoured, block by block", () => {
  fc.assert(
    fc.property(
      fc.array(fc.uint8Array({ minLength: 1, maxLength: 200 }), { minLength: 1, maxLength: 4 }),
      (blocks) => {
        const text = blocks.map((block) => encodePem("CERTIFICATE", block)).join("\n");
        assert.deepEqual(decodePem("CERTIFICATE", text), blocks);
      },
    ),
  );
});

Deno.test("decodePem() refuses foreign text, other labels and broken armour", () => {
  const good = encodePem("CERTIFICATE", new Uint8Array([1, 2, 3]));
  const wrong = [
    "",
    "  \n",
    "hello",
    "hello\n" + good,
    good + "hello",
    good.replace("-----END CERTIFICATE-----", ""),
    good.replace("AQID", "AQI*"),
    good.replace("AQID", "AQI"),
    good.replaceAll("CERTIFICATE", "PRIVATE KEY"),
    good + encodePem("PRIVATE KEY", new Uint8Array([1])),
  ];
  for (const text of wrong) {
    assert.throws(() => decodePem("CERTIFICATE", text), MALFORMED, JSON.stringify(text));
  }
});

Deno.test("decodePem() is cut short safely at every character", () => {
  const good = encodePem("CERTIFICATE", new Uint8Array(40).fill(7)).trim();
  for (let length = 0; length < good.length; length++) {
    assert.throws(() => decodePem("CERTIFICATE", good.slice(0, length)), MALFORMED, String(length));
  }
});

Deno.test("decodeBase64() reads standard base64 with padding only", () => {
  assert.deepEqual(decodeBase64("+/8="), new Uint8Array([0xfb, 0xff]));
  assert.equal(encodeBase64(new Uint8Array([0xfb, 0xff])), "+/8=");
  for (const text of ["-_8=", "+/8", "+/8==", "A", "AA=A", "AA==\n", " AA=="]) {
    assert.throws(() => decodeBase64(text), MALFORMED, JSON.stringify(text));
  }
});
