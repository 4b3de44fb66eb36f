/** The form that proofs and renewals share; what each of them means is tested in files of their own. */

import assert from "node:assert/strict";
import {
  assertWindow,
  CommonClaims,
  commonClaims,
  MAX_PROOF_LENGTH,
  PROOF_LIFETIME_SECONDS,
  readClaims,
  readX5c,
  signProof,
} from "../../src/identity/proof_token.ts";
import { parseCertificate } from "../../src/identity/certificate.ts";
import { decodeBase64 } from "../../src/identity/pem.ts";
import { createTestNetwork, NOW, rejectsWith } from "./forge.ts";

const NETWORK = await createTestNetwork();
const ALICE = await NETWORK.identity("agent", "alice");
const CLAIMS = commonClaims({ identity: ALICE, audience: "somebody", now: NOW });
const CERTIFICATES = ALICE.chainDer.length;

Deno.test("a token is read back by its type, its claims by the key that signed it", async () => {
  const token = await signProof(CLAIMS, { identity: ALICE, type: "one+jwt" });
  assert.equal(readX5c(token, "one+jwt").length, CERTIFICATES);
  assert.throws(() => readX5c(token, "other+jwt"), { code: "ERR_PROOF_MALFORMED" });
  const [own, bobs] = [await publicKeyOf(token), await publicKeyOf(await bobsToken())];
  assert.deepEqual(await readClaims(token, { key: own, schema: CommonClaims }), CLAIMS);
  await rejectsWith("ERR_PROOF_SIGNATURE", () => readClaims(token, { key: bobs, schema: CommonClaims }));
});

Deno.test("readX5c() looks at the length first", () => {
  assert.throws(() => readX5c("a".repeat(MAX_PROOF_LENGTH + 1), "one+jwt"), { code: "ERR_PROOF_TOO_LARGE" });
});

Deno.test("assertWindow() bounds a token's life, past and future", () => {
  const seconds = NOW / 1_000;
  assertWindow(CLAIMS, NOW);
  assert.equal(CLAIMS.exp - CLAIMS.iat, PROOF_LIFETIME_SECONDS);
  const wrong: [string, object, number][] = [
    ["ERR_PROOF_EXPIRED", {}, NOW + 61_000],
    ["ERR_PROOF_NOT_YET_VALID", {}, NOW - 31_000],
    ["ERR_PROOF_NOT_YET_VALID", { nbf: seconds + 31 }, NOW],
    ["ERR_PROOF_LIFETIME", { exp: seconds }, NOW],
    ["ERR_PROOF_LIFETIME", { exp: seconds + 61 }, NOW],
  ];
  for (const [code, change, now] of wrong) {
    assert.throws(() => assertWindow({ ...CLAIMS, ...change }, now), { code });
  }
});

async function bobsToken(): Promise<string> {
  const bob = await NETWORK.identity("agent", "bob");
  return await signProof(CLAIMS, { identity: bob, type: "one+jwt" });
}

async function publicKeyOf(token: string): Promise<CryptoKey> {
  const [leaf] = readX5c(token, "one+jwt");
  return await parseCertificate(decodeBase64(leaf!)).publicKey();
}
