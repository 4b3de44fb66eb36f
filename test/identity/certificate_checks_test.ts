/** What one certificate must be by itself; whole chains are tested in `chain_test.ts` and `foreign_trust_test.ts`. */

import assert from "node:assert/strict";
import { parseCertificate } from "../../src/identity/certificate.ts";
import {
  assertCa,
  assertLeafUse,
  assertPathLength,
  assertValidity,
  statedTrustDomain,
} from "../../src/identity/certificate_checks.ts";
import { forge, type ForgeOptions, NOW } from "./forge.ts";

Deno.test("assertCa() wants both the CA flag and the right to sign certificates", async () => {
  assertCa(await certificate({ ca: true }));
  for (const options of [{}, { ca: null }, { ca: true, keyUsage: null }]) {
    const bad = await certificate(options);
    assert.throws(() => assertCa(bad), { code: "ERR_CERT_ISSUER_NOT_CA" });
  }
});

Deno.test("assertPathLength() counts what stands below a CA", async () => {
  const one = await certificate({ ca: true, pathLength: 1 });
  assertPathLength(one, 1);
  assert.throws(() => assertPathLength(one, 2), { code: "ERR_CERT_PATH_LENGTH" });
  assertPathLength(await certificate({ ca: true }), 9);
});

Deno.test("assertValidity() takes both ends of a life and nothing beyond", () => {
  const life = { notBefore: NOW, notAfter: NOW + 10 };
  for (const now of [NOW, NOW + 10]) assertValidity(life, { now, what: "it" });
  assert.throws(() => assertValidity(life, { now: NOW - 1, what: "it" }), { code: "ERR_CERT_NOT_YET_VALID" });
  assert.throws(() => assertValidity(life, { now: NOW + 11, what: "it" }), { code: "ERR_CERT_EXPIRED" });
});

Deno.test("assertLeafUse() lets only foreign leaves do without an extended key usage, and no CA stand for anybody", async () => {
  const bare = await certificate({ extendedKeyUsage: null });
  assertLeafUse(bare, { purpose: "client", isForeign: true });
  assert.throws(() => assertLeafUse(bare, { purpose: "client", isForeign: false }), {
    code: "ERR_CERT_WRONG_USE",
  });
  const server = await certificate({ extendedKeyUsage: ["1.3.6.1.5.5.7.3.1"] });
  assertLeafUse(server, { purpose: "server", isForeign: true });
  assert.throws(() => assertLeafUse(server, { purpose: "client", isForeign: true }), {
    code: "ERR_CERT_WRONG_USE",
  });
  const ca = await certificate({ ca: true });
  assert.throws(() => assertLeafUse(ca, { purpose: "client", isForeign: true }), {
    code: "ERR_CERT_WRONG_USE",
  });
});

Deno.test("statedTrustDomain() reads one bare trust domain or none", async () => {
  const named = (...uris: string[]) =>
    certificate({ ca: true, names: uris.map((value) => ({ type: "url", value })) });
  assert.equal(statedTrustDomain(await named("spiffe://a.example")), "a.example");
  assert.equal(statedTrustDomain(await certificate({ ca: true, names: null })), undefined);
  const [path, two] = await Promise.all([
    named("spiffe://a.example/agent/b"),
    named("spiffe://a.example", "spiffe://b.example"),
  ]);
  assert.throws(() => statedTrustDomain(path), { code: "ERR_CERT_TRUST_DOMAIN" });
  assert.throws(() => statedTrustDomain(two), { code: "ERR_CERT_SEVERAL_SPIFFE_IDS" });
});

async function certificate(options: ForgeOptions) {
  return parseCertificate((await forge(options)).der);
}
