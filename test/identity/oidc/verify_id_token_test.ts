/** Attacks on ID tokens. Each differs from a good one in one thing, and each is refused for that very thing. */

import assert from "node:assert/strict";
import fc from "fast-check";
import { base64url, exportJWK, exportSPKI, generateKeyPair, type JWK, SignJWT } from "jose";
import {
  type IdTokenFault,
  MAX_ID_TOKEN_LENGTH,
  peekIdToken,
  verifyIdToken,
} from "../../../src/identity/oidc/verify_id_token.ts";

const ISSUER = "https://id.example.com/realms/main";
const CLIENT = "ginnel";
const NOW = Date.UTC(2026, 5, 1);
const SECONDS = NOW / 1000;

const RSA = await keyPair("RS256");
const EC = await keyPair("ES256");
const OTHER = await keyPair("RS256");
const KEYS = [RSA.jwk, EC.jwk];
const GOOD = {
  iss: ISSUER,
  aud: CLIENT,
  sub: "u-1",
  iat: SECONDS,
  exp: SECONDS + 300,
  nonce: "n-1",
  groups: ["dev"],
};

Deno.test("verifyIdToken() accepts RS256, ES256, PS256 and EdDSA", async () => {
  for (const alg of ["RS256", "ES256", "PS256", "EdDSA"]) {
    const pair = await keyPair(alg);
    const token = await sign({}, { pair, alg });
    const verdict = await verify(token, { keys: [pair.jwk] });
    assert.ok(verdict.ok, alg);
    assert.deepEqual(verdict.claims, GOOD);
    assert.equal(verdict.nonce, "n-1");
  }
});

Deno.test("[RFC8725-3.1] verifyIdToken() refuses `none`, whatever its spelling, and asks for no key", async () => {
  for (const alg of ["none", "None", "NONE", "nOnE", ""]) {
    const head = encode({ alg });
    for (const signature of ["", "AA"]) {
      const token = `${head}.${encode(GOOD)}.${signature}`;
      const verdict = await verify(token, { find: () => assert.fail("asked for a key") });
      assert.deepEqual(verdict, { ok: false, fault: signature === "" ? "malformed" : "algorithm" });
    }
  }
});

Deno.test("[RFC8725-3.1] verifyIdToken() refuses an HMAC made with the public key in any of its forms", async () => {
  const forms = [
    await exportSPKI(RSA.publicKey),
    JSON.stringify(RSA.jwk),
    RSA.jwk.n!,
    base64url.encode(new Uint8Array(await crypto.subtle.exportKey("spki", RSA.publicKey))),
  ];
  for (const form of forms) {
    for (const alg of ["HS256", "HS384", "HS512"]) {
      const token = await new SignJWT(GOOD).setProtectedHeader({ alg, kid: RSA.jwk.kid! })
        .sign(new TextEncoder().encode(form.padEnd(64)));
      await refused("algorithm", token);
    }
  }
});

Deno.test("verifyIdToken() does not use a symmetric key that a provider lists", async () => {
  const secret = new TextEncoder().encode("a secret that everybody can read in the key set");
  const oct = { kty: "oct", k: base64url.encode(secret), kid: "x", alg: "RS256" };
  const token = await new SignJWT(GOOD).setProtectedHeader({ alg: "HS256", kid: "x" }).sign(secret);
  await refused("algorithm", token, { keys: [oct] });
  await refused("unknown-key", await sign({}, { kid: "x" }), { keys: [oct] });
});

Deno.test("verifyIdToken() refuses other algorithms, even with a fitting key", async () => {
  for (const alg of ["RS384", "RS512", "PS512", "ES384", "ES512"]) {
    const pair = await keyPair(alg);
    await refused("algorithm", await sign({}, { pair, alg }), { keys: [pair.jwk] });
  }
});

Deno.test("verifyIdToken() refuses another provider's key", async () => {
  await refused("signature", await sign({}, { pair: OTHER, kid: RSA.jwk.kid! }));
  await refused("signature", await sign({}, { pair: OTHER, kid: null }));
  await refused("unknown-key", await sign({}, { pair: OTHER }));
});

Deno.test("verifyIdToken() takes no key out of the token", async () => {
  for (const header of [{ jwk: OTHER.jwk }, { x5c: ["AAAA"] }, { jku: "https://evil.example/jwks" }]) {
    const token = await new SignJWT(GOOD).setProtectedHeader({ alg: "RS256", ...header }).sign(
      OTHER.privateKey,
    );
    await refused("signature", token);
  }
});

Deno.test("verifyIdToken() refuses a key for encryption and a key of another algorithm", async () => {
  await refused("unknown-key", await sign({}), { keys: [{ ...RSA.jwk, use: "enc" }] });
  await refused("unknown-key", await sign({}), { keys: [{ ...RSA.jwk, alg: "PS256" }] });
  await refused("unknown-key", await sign({}, { pair: EC, alg: "ES256" }), { keys: [RSA.jwk] });
});

Deno.test("verifyIdToken() tries few keys for a token that names none", async () => {
  const crowd = await Promise.all(Array.from({ length: 4 }, () => keyPair("ES256")));
  const token = await sign({}, { pair: EC, alg: "ES256", kid: null });
  const keys = [...crowd.map(({ jwk }) => jwk), EC.jwk];
  await refused("signature", token, { keys });
  assert.ok((await verify(token, { keys: keys.slice(1) })).ok);
});

Deno.test("verifyIdToken() refuses a changed payload", async () => {
  const [head, , signature] = (await sign({})).split(".");
  await refused("signature", `${head}.${encode({ ...GOOD, sub: "u-2" })}.${signature}`);
});

Deno.test("verifyIdToken() compares the issuer as text", async () => {
  for (
    const iss of [`${ISSUER}/`, ISSUER.toUpperCase(), "https://evil.example", "", undefined, [ISSUER], 1]
  ) {
    await refused("issuer", await sign({ iss }));
  }
});

Deno.test("[RFC7519-4.1.3] verifyIdToken() refuses a token for another client", async () => {
  for (const aud of ["other", [], ["other"], undefined, "ginnel2", [CLIENT, 1], { 0: CLIENT }]) {
    await refused("audience", await sign({ aud }));
  }
});

Deno.test("verifyIdToken() wants to be the authorized party where there could be another", async () => {
  await refused("authorized-party", await sign({ azp: "other" }));
  await refused("authorized-party", await sign({ aud: [CLIENT, "other"] }));
  await refused("authorized-party", await sign({ aud: [CLIENT, "other"], azp: "other" }));
  await refused("authorized-party", await sign({ azp: null }));
  assert.ok((await verify(await sign({ aud: [CLIENT, "other"], azp: CLIENT }))).ok);
  assert.ok((await verify(await sign({ aud: [CLIENT] }))).ok);
});

Deno.test("[RFC7519-4.1.4] verifyIdToken() refuses an expired token, with 30 s for clocks", async () => {
  await refused("expired", await sign({ iat: SECONDS - 400, exp: SECONDS - 30 }));
  assert.ok((await verify(await sign({ iat: SECONDS - 400, exp: SECONDS - 29 }))).ok);
  await refused("not-yet-valid", await sign({ iat: SECONDS + 31 }));
  await refused("not-yet-valid", await sign({ nbf: SECONDS + 31 }));
  assert.ok((await verify(await sign({ iat: SECONDS + 30, nbf: SECONDS + 30 }))).ok);
  for (const exp of [undefined, null, "9999999999", -1]) await refused("malformed", await sign({ exp }));
  for (const iat of [undefined, null, "1"]) await refused("malformed", await sign({ iat }));
});

Deno.test("verifyIdToken() refuses another login's nonce", async () => {
  await refused("nonce", await sign({}), { nonces: ["n-2"] });
  await refused("nonce", await sign({}), { nonces: [] });
  await refused("nonce", await sign({ nonce: "" }), { nonces: ["n-1"] });
  await refused("malformed", await sign({ nonce: ["n-1"] }), { nonces: ["n-1"] });
  assert.ok((await verify(await sign({}), { nonces: ["n-0", "n-1"] })).ok);
  const without = await verify(await sign({ nonce: undefined }), { nonces: ["n-1"] });
  assert.ok(without.ok && without.nonce === undefined, "the caller decides on tokens without a nonce");
});

Deno.test("verifyIdToken() refuses a token without a subject", async () => {
  for (const sub of [undefined, "", 7, "x".repeat(256)]) await refused("subject", await sign({ sub }));
});

Deno.test("[RFC8725-3.11] verifyIdToken() refuses what the same keys sign for other ends", async () => {
  for (const typ of ["at+jwt", "logout+jwt", "secevent+jwt", 1]) {
    await refused("type", await sign({}, { typ: typ as string }));
  }
  await refused("type", await sign({ events: {} }));
  assert.ok((await verify(await sign({}, { typ: "jwt" }))).ok);
});

Deno.test("verifyIdToken() refuses what is no token before it asks for keys", async () => {
  const good = await sign({});
  const find = () => assert.fail("asked for a key");
  for (
    const token of [
      "",
      ".",
      "..",
      "a.b",
      "a.b.c",
      `${good}.x`,
      `${good} `,
      `${good}=`,
      `${encode([])}.e30.AA`,
    ]
  ) {
    assert.deepEqual(await verify(token, { find }), { ok: false, fault: "malformed" }, token);
  }
  const crit = `${encode({ alg: "RS256", crit: ["exp"] })}.e30.AA`;
  assert.deepEqual(await verify(crit, { find }), { ok: false, fault: "malformed" });
  const huge = good + "A".repeat(MAX_ID_TOKEN_LENGTH);
  assert.deepEqual(await verify(huge, { find }), { ok: false, fault: "too-large" });
});

Deno.test("verifyIdToken() survives any text", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.base64String(), { maxLength: 4 }), async (parts) => {
      assert.equal((await verify(parts.join("."))).ok, false);
    }),
    { numRuns: 200 },
  );
});

Deno.test("peekIdToken() tells whose token it claims to be, and nothing of what is none", async () => {
  assert.deepEqual(peekIdToken(await sign({})), { issuer: ISSUER, audiences: [CLIENT] });
  assert.deepEqual(peekIdToken(await sign({ aud: ["a", "b"] })), { issuer: ISSUER, audiences: ["a", "b"] });
  for (const token of ["", "gnl_x_y", "a.b.c", await sign({ aud: 1 }), await sign({ iss: undefined })]) {
    assert.equal(peekIdToken(token), undefined);
  }
});

interface Pair {
  readonly privateKey: CryptoKey;
  readonly publicKey: CryptoKey;
  readonly jwk: JWK;
}

async function keyPair(alg: string): Promise<Pair> {
  const { privateKey, publicKey } = await generateKeyPair(alg, { extractable: true });
  return { privateKey, publicKey, jwk: { ...await exportJWK(publicKey), kid: crypto.randomUUID() } };
}

async function sign(
  change: Readonly<Record<string, unknown>>,
  { pair = RSA, alg = "RS256", kid = pair.jwk.kid!, typ }: {
    readonly pair?: Pair;
    readonly alg?: string;
    readonly kid?: string | null;
    readonly typ?: string;
  } = {},
): Promise<string> {
  const header = { alg, ...(kid === null ? {} : { kid }), ...(typ === undefined ? {} : { typ }) };
  return await new SignJWT({ ...GOOD, ...change } as never).setProtectedHeader(header).sign(pair.privateKey);
}

function verify(
  token: string,
  { keys = KEYS, find, nonces }: {
    readonly keys?: readonly JWK[];
    readonly find?: () => never;
    readonly nonces?: readonly string[];
  } = {},
) {
  return verifyIdToken(token, {
    issuer: ISSUER,
    clientId: CLIENT,
    keys: find ?? (() => Promise.resolve(keys)),
    now: NOW,
    ...(nonces === undefined ? {} : { nonces }),
  });
}

async function refused(
  fault: IdTokenFault,
  token: string,
  options: { readonly keys?: readonly JWK[]; readonly nonces?: readonly string[] } = {},
): Promise<void> {
  assert.deepEqual(await verify(token, options), { ok: false, fault });
}

function encode(value: unknown): string {
  return base64url.encode(JSON.stringify(value));
}
