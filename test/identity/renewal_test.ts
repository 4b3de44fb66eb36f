/** Renewals of one session: each differs from a good one in one thing, and is refused for that very thing. */

import assert from "node:assert/strict";
import { createProof } from "../../src/identity/proof.ts";
import {
  createRenewal,
  MAX_RENEWAL_LENGTH,
  verifyRenewal,
  type VerifyRenewalOptions,
} from "../../src/identity/renewal.ts";
import { createTestNetwork, DOMAIN, NOW, rejectsWith } from "./forge.ts";

const NETWORK = await createTestNetwork();
const ALICE = await NETWORK.identity("agent", "alice");
const BOB = await NETWORK.identity("agent", "bob");
const SITE = `spiffe://${DOMAIN}/connector/site`;
const SESSION = "0123456789abcdef0123456789abcdef";

Deno.test("verifyRenewal() returns the newer chain", async () => {
  const chain = await verify(await renew());
  assert.equal(chain.id.uri, ALICE.id.uri);
  assert.equal(chain.notAfter, ALICE.notAfter);
  assert.deepEqual(chain.chainDer, ALICE.chainDer);
});

Deno.test("verifyRenewal() refuses another's, another peer's and another session's", async () => {
  await rejectsWith("ERR_SUBJECT_MISMATCH", async () => verify(await renew({ identity: BOB })));
  await rejectsWith("ERR_PROOF_AUDIENCE", async () => verify(await renew(), { audience: BOB.id.uri }));
  await rejectsWith("ERR_PROOF_SESSION", async () => verify(await renew(), { session: "00".repeat(16) }));
});

Deno.test("verifyRenewal() refuses what is too old, too new, oversize, revoked or of another CA", async () => {
  await rejectsWith("ERR_PROOF_EXPIRED", async () => verify(await renew(), { now: NOW + 61_000 }));
  await rejectsWith("ERR_PROOF_NOT_YET_VALID", async () => verify(await renew(), { now: NOW - 31_000 }));
  await rejectsWith("ERR_PROOF_TOO_LARGE", () => verify("a".repeat(MAX_RENEWAL_LENGTH + 1)));
  await rejectsWith("ERR_CERT_REVOKED", async () => verify(await renew(), { isRevoked: () => true }));
  const twin = await createTestNetwork();
  await rejectsWith(
    "ERR_CERT_SIGNATURE",
    async () => verify(await renew({ identity: await twin.identity("agent", "alice") })),
  );
});

Deno.test("a renewal is no proof and a proof no renewal", async () => {
  const proof = await createProof({ identity: ALICE, audience: SITE, now: NOW });
  await rejectsWith("ERR_PROOF_MALFORMED", () => verify(proof));
});

function renew({ identity = ALICE } = {}): Promise<string> {
  return createRenewal(identity, { audience: SITE, session: SESSION, now: NOW });
}

function verify(token: string, options: Partial<VerifyRenewalOptions> = {}) {
  return verifyRenewal(token, {
    subject: ALICE.id.uri,
    audience: SITE,
    session: SESSION,
    roots: [NETWORK.ca.certificatePem],
    purpose: "client",
    now: NOW,
    ...options,
  });
}
