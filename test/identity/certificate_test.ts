/** Single certificates: facts read, sizes bounded, and any bytes answered with an IdentityError. */

import assert from "node:assert/strict";
import fc from "fast-check";
import {
  hasKeyUsage,
  KEY_USAGE,
  MAX_CERTIFICATE_LENGTH,
  parseCertificate,
} from "../../src/identity/certificate.ts";
import { forge, NOW } from "./forge.ts";

const LEAF = await forge({ subject: "CN=leaf, O=Test", notBefore: NOW, notAfter: NOW + 1000 });

Deno.test("parseCertificate() reads what the certificate says", () => {
  const certificate = parseCertificate(LEAF.der);
  assert.equal(certificate.subject, certificate.issuer);
  assert.equal(certificate.notBefore, NOW);
  assert.equal(certificate.notAfter, NOW + 1000);
  assert.equal(certificate.isCa, false);
  assert.equal(certificate.pathLength, undefined);
  assert.equal(hasKeyUsage(certificate, KEY_USAGE.digitalSignature), true);
  assert.equal(hasKeyUsage(certificate, KEY_USAGE.certSign), false);
  assert.deepEqual(certificate.extendedKeyUsage, ["1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"]);
  assert.deepEqual(certificate.uriNames, ["spiffe://test.internal/agent/forged"]);
});

Deno.test("parseCertificate() tells apart a missing extension and an empty one", async () => {
  const bare = parseCertificate((await forge({ keyUsage: null, extendedKeyUsage: null, names: null })).der);
  assert.equal(bare.keyUsage, undefined);
  assert.equal(bare.extendedKeyUsage, undefined);
  assert.equal(hasKeyUsage(bare, KEY_USAGE.digitalSignature), false);
  assert.deepEqual(bare.uriNames, []);
});

Deno.test("parseCertificate() keeps its own copy of the bytes", () => {
  const der = new Uint8Array(LEAF.der);
  const certificate = parseCertificate(der);
  der.fill(0);
  assert.deepEqual(certificate.der, LEAF.der);
});

Deno.test("parseCertificate() refuses an oversize certificate", () => {
  assert.throws(() => parseCertificate(new Uint8Array(MAX_CERTIFICATE_LENGTH + 1)), {
    code: "ERR_CERT_MALFORMED",
  });
});

Deno.test("parseCertificate() refuses text that spells a certificate: only DER counts", () => {
  for (const text of [LEAF.pem, btoa(String.fromCharCode(...LEAF.der))]) {
    assert.throws(() => parseCertificate(new TextEncoder().encode(text)), { code: "ERR_CERT_MALFORMED" });
  }
});

Deno.test("parseCertificate() answers any bytes, and deep nesting, with an IdentityError", () => {
  const nested = new Uint8Array(MAX_CERTIFICATE_LENGTH).fill(0x30);
  assert.throws(() => parseCertificate(nested), { name: "IdentityError" });
  const edit = fc.record({ at: fc.nat(LEAF.der.length - 1), value: fc.nat(255) });
  fc.assert(
    fc.property(fc.array(edit, { minLength: 1, maxLength: 5 }), (edits) => {
      const der = new Uint8Array(LEAF.der);
      for (const { at, value } of edits) der[at] = value;
      try {
        parseCertificate(der);
      } catch (error) {
        assert.equal((error as Error).name, "IdentityError");
      }
    }),
    { numRuns: 300 },
  );
});
