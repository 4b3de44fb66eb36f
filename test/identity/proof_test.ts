/** Attacks on proofs. Each token differs from a good one in one thing, and each is refused for that very thing. */

import assert from "node:assert/strict";
import { base64url } from "jose";
import fc from "fast-check";
import { issueCertificate } from "../../src/identity/pki.ts";
import { decodePem, encodeBase64 } from "../../src/identity/pem.ts";
import {
  createProof,
  PROOF_TYPE,
  ProofVerifier,
  type ProofVerifierOptions,
} from "../../src/identity/proof.ts";
import { MAX_PROOF_LENGTH, PROOF_LIFETIME_SECONDS } from "../../src/identity/proof_token.ts";
import { createTestNetwork, DOMAIN, forge, NOW, rejectsWith } from "./forge.ts";

const SECOND = 1000;
const NOW_SECONDS = NOW / SECOND;
const NETWORK = await createTestNetwork();
const ALICE = await NETWORK.identity("agent", "alice");
const BOB = await NETWORK.identity("agent", "bob");
const X5C = ALICE.chainDer.map(encodeBase64);
const GOOD_HEADER = { alg: "ES256", typ: PROOF_TYPE, x5c: X5C };

let counter = 0;

Deno.test("ProofVerifier accepts what createProof() makes", async () => {
  const proof = await verifier().verify(await prove());
  assert.deepEqual(proof.id, ALICE.id);
  assert.equal(proof.notAfter, ALICE.notAfter);
  assert.match(proof.certificateSerial, /^[0-9A-F]{32}$/);
});

Deno.test("createProof() makes a new token each time, and the random bytes are the caller's", async () => {
  assert.notEqual(claimsOf(await prove()).jti, claimsOf(await prove()).jti);
  const rng = (target: Uint8Array<ArrayBuffer>) => target.fill(7);
  const token = await createProof({ identity: ALICE, audience: "relay-1", now: NOW, rng });
  assert.equal(claimsOf(token).jti, base64url.encode(new Uint8Array(16).fill(7)));
});

Deno.test("ProofVerifier refuses a replayed proof, also when both copies arrive at once", async () => {
  const relay = verifier();
  const token = await prove();
  await relay.verify(token);
  await rejectsWith("ERR_PROOF_REPLAYED", () => relay.verify(token));
  const second = await prove();
  const outcomes = await Promise.allSettled([relay.verify(second), relay.verify(second)]);
  assert.deepEqual(outcomes.map((outcome) => outcome.status).sort(), ["fulfilled", "rejected"]);
});

Deno.test("ProofVerifier refuses a replay in another spelling of the same signature", async () => {
  const relay = verifier();
  const token = await prove();
  await relay.verify(token);
  // (r, n - s) verifies whenever (r, s) does: the memory must go by the signed id, not by the token's bytes.
  await rejectsWith("ERR_PROOF_REPLAYED", () => relay.verify(withMirroredSignature(token)));
});

Deno.test("ProofVerifier accepts one id from two identities", async () => {
  const relay = verifier();
  const jti = "0123456789abcdef";
  await relay.verify(await sign({ jti }));
  const bob = await sign({ jti, sub: BOB.id.uri, iss: BOB.id.uri }, {
    header: { x5c: BOB.chainDer.map(encodeBase64) },
    key: BOB.privateKey,
  });
  assert.equal((await relay.verify(bob)).id.name, "bob");
});

Deno.test("ProofVerifier refuses when its replay cache is full, and still refuses replays", async () => {
  const relay = verifier({ replay: { capacity: 2, capacityPerOwner: 2 } });
  const first = await prove();
  await relay.verify(first);
  await relay.verify(await prove());
  await rejectsWith("ERR_REPLAY_CACHE_FULL", () => prove().then((token) => relay.verify(token)));
  await rejectsWith("ERR_PROOF_REPLAYED", () => relay.verify(first));
});

Deno.test("ProofVerifier does not let refused proofs into the replay cache", async () => {
  const relay = verifier({ replay: { capacity: 1, capacityPerOwner: 1 } });
  await rejectsWith(
    "ERR_PROOF_AUDIENCE",
    () => sign({ aud: "relay-2" }).then((token) => relay.verify(token)),
  );
  await rejectsWith(
    "ERR_PROOF_EXPIRED",
    () => sign({ iat: NOW_SECONDS - 90, exp: NOW_SECONDS - 40 }).then((token) => relay.verify(token)),
  );
  assert.ok(await relay.verify(await prove()));
});

Deno.test("ProofVerifier refuses a proof for another relay", async () => {
  for (const aud of ["relay-2", "", "relay-1 ", "Relay-1"]) {
    await rejectsWith("ERR_PROOF_AUDIENCE", () => verifySigned({ aud }));
  }
  await rejectsWith("ERR_PROOF_MALFORMED", () => verifySigned({ aud: ["relay-1", "relay-2"] }));
});

Deno.test("ProofVerifier allows clocks to differ by 30 seconds and no more", async () => {
  const life = PROOF_LIFETIME_SECONDS;
  const at = (iat: number) => ({ iat, exp: iat + life });
  assert.ok(await verifySigned(at(NOW_SECONDS + 30)));
  await rejectsWith("ERR_PROOF_NOT_YET_VALID", () => verifySigned(at(NOW_SECONDS + 31)));
  assert.ok(await verifySigned(at(NOW_SECONDS - life - 29)));
  await rejectsWith("ERR_PROOF_EXPIRED", () => verifySigned(at(NOW_SECONDS - life - 30)));
  await rejectsWith("ERR_PROOF_NOT_YET_VALID", () => verifySigned({ nbf: NOW_SECONDS + 31 }));
});

Deno.test("ProofVerifier refuses a life over 60 seconds, of nothing, and backwards", async () => {
  assert.ok(await verifySigned({ exp: NOW_SECONDS + 60 }));
  for (const exp of [NOW_SECONDS + 61, NOW_SECONDS, NOW_SECONDS - 1, 2 ** 52]) {
    await rejectsWith("ERR_PROOF_LIFETIME", () => verifySigned({ exp }));
  }
});

Deno.test("ProofVerifier refuses a proof that a verifier before it may have seen", async () => {
  const relay = verifier({ now: () => NOW });
  const old = await sign({ iat: NOW_SECONDS - 3, exp: NOW_SECONDS + 20 });
  await rejectsWith("ERR_PROOF_BEFORE_START", () => relay.verify(old));
  assert.ok(await relay.verify(await sign({ iat: NOW_SECONDS - 2, exp: NOW_SECONDS + 20 })));
});

Deno.test("ProofVerifier refuses a subject or issuer that the certificate does not carry", async () => {
  for (const claim of ["sub", "iss"]) {
    await rejectsWith("ERR_SUBJECT_MISMATCH", () => verifySigned({ [claim]: BOB.id.uri }));
  }
});

Deno.test("ProofVerifier refuses every algorithm but ES256", async () => {
  for (
    const alg of ["none", "None", "", "HS256", "RS256", "ES384", "ES256K", "es256", undefined, ["ES256"]]
  ) {
    await rejectsWith("ERR_PROOF_ALGORITHM", () => verifySigned({}, { header: { alg } }));
  }
});

Deno.test("ProofVerifier refuses an unsigned proof and one signed with the certificate as HMAC key", async () => {
  const unsigned = `${encode({ ...GOOD_HEADER, alg: "none" })}.${encode(goodClaims())}.`;
  await rejectsWith("ERR_PROOF_ALGORITHM", () => verifier().verify(unsigned));
  const input = `${encode({ ...GOOD_HEADER, alg: "HS256" })}.${encode(goodClaims())}`;
  const secret = new TextEncoder().encode(ALICE.certificatePem);
  const key = await crypto.subtle.importKey("raw", secret, { name: "HMAC", hash: "SHA-256" }, false, [
    "sign",
  ]);
  const mac = new Uint8Array(await crypto.subtle.sign("HMAC", key, new TextEncoder().encode(input)));
  await rejectsWith("ERR_PROOF_ALGORITHM", () => verifier().verify(`${input}.${base64url.encode(mac)}`));
  const empty = (await sign()).replace(/\.[^.]*$/, ".");
  await rejectsWith("ERR_PROOF_SIGNATURE", () => verifier().verify(empty));
  const zeros = empty + base64url.encode(new Uint8Array(64));
  await rejectsWith("ERR_PROOF_SIGNATURE", () => verifier().verify(zeros));
});

Deno.test("ProofVerifier ignores every other way to name a key: jwk, kid, x5u", async () => {
  const { publicKey, privateKey } = await crypto.subtle.generateKey(
    { name: "ECDSA", namedCurve: "P-256" },
    true,
    ["sign", "verify"],
  );
  const jwk = await crypto.subtle.exportKey("jwk", publicKey);
  const header = { jwk, kid: "x", x5u: "https://attacker.example/" };
  await rejectsWith("ERR_PROOF_SIGNATURE", () => verifySigned({}, { header, key: privateKey }));
});

Deno.test("ProofVerifier refuses critical header extensions, and unencoded payloads [RFC7515-4.1.11]", async () => {
  await rejectsWith("ERR_PROOF_MALFORMED", () => verifySigned({}, { header: { crit: ["exp"], exp: 1 } }));
  await rejectsWith("ERR_PROOF_MALFORMED", () => verifySigned({}, { header: { crit: ["b64"], b64: false } }));
  await rejectsWith("ERR_PROOF_MALFORMED", () => verifySigned({}, { header: { b64: false } }));
});

Deno.test("ProofVerifier refuses another kind of token, such as a view", async () => {
  for (const typ of ["ginnel-view+jwt", "JWT", undefined]) {
    await rejectsWith("ERR_PROOF_MALFORMED", () => verifySigned({}, { header: { typ } }));
  }
});

Deno.test("ProofVerifier refuses a certificate whose key did not sign, one's own or another's", async () => {
  await rejectsWith("ERR_PROOF_SIGNATURE", () => verifySigned({}, { key: BOB.privateKey }));
  const stolen = { x5c: BOB.chainDer.map(encodeBase64) };
  const claims = { sub: BOB.id.uri, iss: BOB.id.uri };
  await rejectsWith("ERR_PROOF_SIGNATURE", () => verifySigned(claims, { header: stolen }));
});

Deno.test("ProofVerifier refuses altered claims and altered signatures", async () => {
  const [header, , signature] = (await sign()).split(".");
  const altered = `${header}.${
    encode({ ...goodClaims(), aud: "relay-1", jti: "another-id-012345" })
  }.${signature}`;
  await rejectsWith("ERR_PROOF_SIGNATURE", () => verifier().verify(altered));
});

Deno.test("ProofVerifier refuses a reordered, stuffed, missing or broken x5c", async () => {
  const root = encodeBase64(decodePem("CERTIFICATE", NETWORK.ca.certificatePem)[0]!);
  const bob = encodeBase64(BOB.chainDer[0]!);
  assert.ok(await verifySigned({}, { header: { x5c: [...X5C, root] } }));
  await rejectsWith("ERR_CERT_CHAIN_ORDER", () => verifySigned({}, { header: { x5c: [root, ...X5C] } }));
  await rejectsWith("ERR_CERT_CHAIN_ORDER", () => verifySigned({}, { header: { x5c: [...X5C, bob] } }));
  await rejectsWith("ERR_CERT_CHAIN_ORDER", () => verifySigned({}, { header: { x5c: [bob, ...X5C] } }));
  for (const x5c of [undefined, [], X5C[0], [1], Array(6).fill(X5C[0])]) {
    await rejectsWith("ERR_PROOF_MALFORMED", () => verifySigned({}, { header: { x5c } }));
  }
  for (
    const x5c of [[""], ["AAAA"], ["*"], [X5C[0]!.slice(4)], [base64url.encode(ALICE.chainDer[0]!) + "-_"]]
  ) {
    await rejectsWith("ERR_CERT_MALFORMED", () => verifySigned({}, { header: { x5c } }));
  }
});

Deno.test("ProofVerifier refuses an identity of another network, even with this network's names", async () => {
  const twin = await createTestNetwork();
  const mallory = await twin.identity("agent", "alice");
  const token = await createProof({ identity: mallory, audience: "relay-1", now: NOW });
  await rejectsWith("ERR_CERT_SIGNATURE", () => verifier().verify(token));
  const foreign = await createTestNetwork("other.internal");
  const stranger = await foreign.identity("agent", "alice");
  const other = await createProof({ identity: stranger, audience: "relay-1", now: NOW });
  await rejectsWith("ERR_CERT_UNTRUSTED", () => verifier().verify(other));
  await rejectsWith(
    "ERR_CERT_TRUST_DOMAIN",
    () => verifier({ roots: [foreign.ca.certificatePem] }).verify(other),
  );
});

Deno.test("ProofVerifier refuses a certificate for servers only", async () => {
  const root = await forge({ subject: "CN=Root", ca: true });
  const leaf = await forge({ issuer: root, extendedKeyUsage: ["1.3.6.1.5.5.7.3.1"] });
  const header = { x5c: [encodeBase64(leaf.der)] };
  const id = `spiffe://${DOMAIN}/agent/forged`;
  const token = await sign({ sub: id, iss: id }, { header, key: leaf.keys.privateKey });
  await rejectsWith("ERR_CERT_WRONG_USE", () => verifier({ roots: [root.pem] }).verify(token));
});

Deno.test("ProofVerifier notices expiry and revocation of a chain that it has cached", async () => {
  let now = NOW;
  let isRevoked = false;
  const relay = verifier({ now: () => now, isRevoked: () => isRevoked });
  assert.ok(await relay.verify(await prove()));
  isRevoked = true;
  await rejectsWith("ERR_CERT_REVOKED", () => prove().then((token) => relay.verify(token)));
  isRevoked = false;
  now = ALICE.notAfter + 1;
  await rejectsWith(
    "ERR_CERT_EXPIRED",
    () => createProof({ identity: ALICE, audience: "relay-1", now }).then((token) => relay.verify(token)),
  );
});

Deno.test("ProofVerifier cannot be filled with chains: a cached chain needs a certificate of the CA", async () => {
  const relay = verifier();
  await relay.verify(await prove());
  const { certificatePem } = await issueCertificate(NETWORK.ca, {
    kind: "agent",
    name: "alice",
    now: NOW,
    days: 1,
  });
  const renewed = encodeBase64(decodePem("CERTIFICATE", certificatePem)[0]!);
  // Same name, other key: the cached chain of the first certificate must not answer for it.
  await rejectsWith(
    "ERR_PROOF_SIGNATURE",
    () => sign({}, { header: { x5c: [renewed] } }).then((token) => relay.verify(token)),
  );
});

Deno.test("ProofVerifier does not let a cached leaf carry other certificates in", async () => {
  const relay = verifier();
  await relay.verify(await prove());
  const stuffed = await sign({}, { header: { x5c: [...X5C, encodeBase64(BOB.chainDer[0]!)] } });
  await rejectsWith("ERR_CERT_CHAIN_ORDER", () => relay.verify(stuffed));
});

Deno.test("ProofVerifier refuses an oversize token before it looks at it", async () => {
  await rejectsWith("ERR_PROOF_TOO_LARGE", () => verifier().verify("x".repeat(MAX_PROOF_LENGTH + 1)));
  await rejectsWith("ERR_PROOF_MALFORMED", () => verifier().verify("x".repeat(MAX_PROOF_LENGTH)));
});

Deno.test("ProofVerifier refuses claims of the wrong shape", async () => {
  const wrong = [
    { jti: "short" },
    { jti: "x".repeat(44) },
    { jti: undefined },
    { jti: "0123456789abcde\n" },
    { exp: undefined },
    { exp: "never" },
    { exp: NOW_SECONDS + 10.5 },
    { iat: null },
    { iat: -1e300 },
    { sub: undefined },
    { aud: undefined },
    { iss: 7 },
  ];
  for (const claims of wrong) await rejectsWith("ERR_PROOF_MALFORMED", () => verifySigned(claims));
});

Deno.test("ProofVerifier refuses a token cut off anywhere, and one in another spelling [RFC7515-7.1]", async () => {
  const token = await prove();
  const relay = verifier();
  for (let length = 0; length < token.length; length += 3) {
    await assert.rejects(
      () => relay.verify(token.slice(0, length)),
      { name: "IdentityError" },
      String(length),
    );
  }
  await rejectsWith("ERR_PROOF_MALFORMED", () => relay.verify(token + "."));
  await rejectsWith("ERR_PROOF_MALFORMED", () => relay.verify(token + "=="));
});

Deno.test("ProofVerifier answers any text with an IdentityError that does not repeat it", async () => {
  const relay = verifier();
  const part = fc.oneof(
    fc.string(),
    fc.json().map((text) => base64url.encode(text)),
    fc.constant(encode(GOOD_HEADER)),
  );
  await fc.assert(fc.asyncProperty(fc.array(part, { minLength: 1, maxLength: 4 }), async (parts) => {
    const token = parts.join(".");
    await assert.rejects(() => relay.verify(token), (error: Error) => {
      assert.equal(error.name, "IdentityError");
      assert.ok(token.length < 20 || !error.message.includes(token));
      return true;
    });
  }));
});

interface SignOptions {
  readonly header?: Record<string, unknown>;
  readonly key?: CryptoKey;
}

function verifier(options: Partial<ProofVerifierOptions> = {}): ProofVerifier {
  const roots = [NETWORK.ca.certificatePem];
  let started = false;
  // The verifier starts two minutes before the test's time, so that old proofs reach the check under test.
  const now = () => {
    const time = started ? NOW : NOW - 120 * SECOND;
    started = true;
    return time;
  };
  return new ProofVerifier({ roots, audience: "relay-1", trustDomain: DOMAIN, now, ...options });
}

Deno.test("ProofVerifier refuses an identity that the network does not know, however good its certificate", async () => {
  const relay = verifier({ admits: ({ id }) => Promise.resolve(id.name !== "alice") });
  await rejectsWith("ERR_IDENTITY_NOT_ADMITTED", () => prove().then((token) => relay.verify(token)));
  const bob = await createProof({ identity: BOB, audience: "relay-1", now: NOW });
  assert.equal((await relay.verify(bob)).id.name, "bob");
});

Deno.test("ProofVerifier refuses a certificate that is revoked while its proof is judged", async () => {
  let isRevoked = false;
  const relay = verifier({
    isRevoked: () => isRevoked,
    admits: () => Promise.resolve(isRevoked = true),
  });
  await rejectsWith("ERR_CERT_REVOKED", () => prove().then((token) => relay.verify(token)));
});

Deno.test("ProofVerifier forgets what it verified when trust changes, also in the middle of a judgement", async () => {
  const other = await createTestNetwork();
  const relay = verifier();
  await relay.verify(await prove());
  relay.updateTrust({ roots: [other.ca.certificatePem] });
  await rejectsWith("ERR_CERT_SIGNATURE", () => prove().then((token) => relay.verify(token)));
  relay.updateTrust({ roots: [NETWORK.ca.certificatePem, other.ca.certificatePem] });
  await relay.verify(await prove());
  const overlapping: ProofVerifier = verifier({
    admits: () => {
      overlapping.updateTrust({ roots: [other.ca.certificatePem] });
      return true;
    },
  });
  await rejectsWith("ERR_CERT_SIGNATURE", () => prove().then((token) => overlapping.verify(token)));
});

Deno.test("ProofVerifier admits a foreign workload for as long as its domain is trusted", async () => {
  const partner = await forge({
    subject: "CN=Partner",
    ca: true,
    names: [{ type: "url", value: "spiffe://partner.example" }],
  });
  const uri = "spiffe://partner.example/ns/prod/sa/billing";
  const svid = await forge({ issuer: partner, names: [{ type: "url", value: uri }] });
  const token = () =>
    sign({ iss: uri, sub: uri }, { header: { x5c: [encodeBase64(svid.der)] }, key: svid.keys.privateKey });
  const foreign = [{ domain: "partner.example", roots: [partner.pem] }];
  const relay = verifier({ foreign });
  const { id } = await relay.verify(await token());
  assert.deepEqual([id.kind, id.name, id.uri], ["workload", "ns/prod/sa/billing", uri]);
  relay.updateTrust({ roots: [NETWORK.ca.certificatePem] });
  await rejectsWith("ERR_CERT_UNTRUSTED", () => token().then((text) => relay.verify(text)));
});

Deno.test("a proof names its group only when asked, and a malformed one is refused", async () => {
  const relay = verifier();
  assert.equal((await relay.verify(await prove())).group, undefined);
  const group = "0123456789abcdefghijkl";
  const token = await createProof({ identity: ALICE, audience: "relay-1", now: NOW, group });
  assert.equal((await relay.verify(token)).group, group);
  await rejectsWith("ERR_PROOF_MALFORMED", () => sign({ group: "short" }).then((text) => relay.verify(text)));
});

function prove(): Promise<string> {
  return createProof({ identity: ALICE, audience: "relay-1", now: NOW });
}

async function verifySigned(
  claims: Record<string, unknown> = {},
  options: SignOptions = {},
): Promise<unknown> {
  return await verifier().verify(await sign(claims, options));
}

/** Signs any header and claims, right or wrong, with a real key: alice's unless told otherwise. */
async function sign(claims: Record<string, unknown> = {}, options: SignOptions = {}): Promise<string> {
  const { header = {}, key = ALICE.privateKey } = options;
  const input = `${encode({ ...GOOD_HEADER, ...header })}.${encode({ ...goodClaims(), ...claims })}`;
  const algorithm = { name: "ECDSA", hash: "SHA-256" };
  const signature = await crypto.subtle.sign(algorithm, key, new TextEncoder().encode(input));
  return `${input}.${base64url.encode(new Uint8Array(signature))}`;
}

function goodClaims(): Record<string, unknown> {
  const jti = `test-token-${String(counter++).padStart(8, "0")}`;
  const exp = NOW_SECONDS + PROOF_LIFETIME_SECONDS;
  return { iss: ALICE.id.uri, sub: ALICE.id.uri, aud: "relay-1", iat: NOW_SECONDS, exp, jti };
}

function claimsOf(token: string): { jti: string } {
  return JSON.parse(new TextDecoder().decode(base64url.decode(token.split(".")[1]!)));
}

function encode(value: unknown): string {
  return base64url.encode(JSON.stringify(value));
}

function withMirroredSignature(token: string): string {
  const order = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n;
  const [header, payload, signature] = token.split(".");
  const bytes = base64url.decode(signature!);
  const s = BigInt(
    "0x" + bytes.subarray(32).reduce((hex, byte) => hex + byte.toString(16).padStart(2, "0"), ""),
  );
  const mirrored = (order - s).toString(16).padStart(64, "0").match(/../g)!.map((hex) =>
    Number.parseInt(hex, 16)
  );
  return `${header}.${payload}.${base64url.encode(new Uint8Array([...bytes.subarray(0, 32), ...mirrored]))}`;
}
