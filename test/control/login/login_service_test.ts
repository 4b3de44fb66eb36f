/** Attacks on logins: stolen and replayed tokens, other people's names, users and providers that are switched off. */

import assert from "node:assert/strict";
import { base64url, SignJWT } from "jose";
import { nonceOf } from "../../../src/control/login/login_challenge.ts";
import type { LoginRefusal } from "../../../src/control/login/login_service.ts";
import type { IdentitySpec } from "../../../src/core/network/resources.ts";
import { parseCertificatesPem } from "../../../src/identity/certificate.ts";
import { verifyChain } from "../../../src/identity/chain.ts";
import { makeCsr } from "../../../src/identity/csr.ts";
import { generateKeyPair } from "../../../src/identity/key_pair.ts";
import { signJws } from "../../../src/identity/jws.ts";
import { OpenidProvider } from "../../support/openid_provider.ts";
import { LOGIN_DOMAIN, LoginGround } from "../../support/login_ground.ts";

const ALICE = `spiffe://${LOGIN_DOMAIN}/user/alice`;

Deno.test("login() makes an identity with attributes and a certificate of eight hours for the device's key", async () => {
  await using ground = await LoginGround.open();
  const keys = await generateKeyPair();
  const result = await ground.login({ groups: ["dev", "ops"] }, { csr: await makeCsr(keys) });
  assert.ok(result.ok);
  assert.equal(result.identity, ALICE);
  const verified = await verifyChain({
    chain: result.certificate,
    roots: [ground.ca.certificatePem],
    trustDomain: LOGIN_DOMAIN,
    now: Date.now(),
  });
  assert.equal(verified.id.uri, ALICE);
  assert.ok(result.notAfter - Date.now() <= 8 * 3_600_000);
  const [leaf] = parseCertificatesPem(result.certificate);
  assert.deepEqual(
    await crypto.subtle.exportKey("raw", await leaf!.parsed.publicKey.export()),
    await crypto.subtle.exportKey("raw", keys.publicKey),
  );
  const identity = await ground.store.find("identity", ALICE);
  assert.deepEqual(identity!.spec.derivedAttributes, ["dev", "ops"]);
  assert.equal(identity!.spec.externalId, `${ground.provider.issuer}|u-alice`);
  assert.equal((await ground.store.certificate(leaf!.serial))!.identityId, identity!.id);
  const { outcome, who, detail } = await ground.lastAudit();
  assert.deepEqual([outcome, who], ["ok", `oidc:${ground.provider.issuer}|u-alice`]);
  assert.equal(detail.serial, leaf!.serial);
});

Deno.test("login() refuses a token that was used, also at once and under another spelling of its signature", async () => {
  await using ground = await LoginGround.open();
  const idToken = await ground.token({});
  const outcomes = await Promise.all([ground.login({}, { idToken }), ground.login({}, { idToken })]);
  assert.deepEqual(outcomes.map(({ ok }) => ok).sort(), [false, true]);
  await refused(ground, "token-replayed", () => ground.login({}, { idToken }));
  const es256 = await ground.token({}, ground.provider.keys[1]);
  assert.ok((await ground.login({}, { idToken: es256 })).ok);
  await refused(ground, "token-replayed", () => ground.login({}, { idToken: respelled(es256) }));
});

Deno.test("login() refuses a challenge that was used, is over, or was made by somebody else", async () => {
  await using ground = await LoginGround.open();
  const { challenge } = await ground.service.challenge();
  assert.ok((await ground.login({}, { challenge })).ok);
  await refused(ground, "challenge-used", () => ground.login({}, { challenge }));
  await refused(ground, "challenge-used", () => ground.login({}, { challenge: respelled(challenge) }));
  const { challenge: late } = await ground.service.challenge();
  ground.skew = 10 * 60_000;
  await refused(ground, "challenge-expired", () => ground.login({}, { challenge: late }));
  ground.skew = 0;
  const { privateKey } = await crypto.subtle.generateKey({ name: "ECDSA", namedCurve: "P-256" }, true, [
    "sign",
    "verify",
  ]);
  const { kid } = ground.authority;
  const iat = Date.now() / 1000;
  const header = { typ: "ginnel-login+jwt", kid };
  const forged = await signJws({ iat, exp: iat + 60 }, { key: privateKey, header });
  const view = await signJws({ iat, exp: iat + 60 }, {
    key: ground.authority.privateKey,
    header: { ...header, typ: "ginnel-view+jwt" },
  });
  for (const bad of [forged, view, "", "x", "a.b.c", "x".repeat(5000)]) {
    await refused(ground, "challenge", () => ground.login({}, { challenge: bad }));
  }
});

Deno.test("login() does not take a stolen token: its nonce is the hash of what the thief does not have", async () => {
  await using ground = await LoginGround.open();
  const { challenge: victims } = await ground.service.challenge();
  const idToken = await ground.token({ nonce: nonceOf(victims) });
  await refused(ground, "token-nonce", () => ground.login({}, { idToken }));
  await refused(ground, "token-nonce", () => ground.login({}, { idToken, origin: nonceOf(victims) }));
  assert.ok((await ground.login({}, { idToken, challenge: victims })).ok, "its owner still can");
});

Deno.test("login() takes a refreshed token from whoever has the first login's challenge", async () => {
  await using ground = await LoginGround.open();
  const { challenge: origin } = await ground.service.challenge();
  assert.ok((await ground.login({}, { challenge: origin })).ok);
  // Without a claim of its own it could be, to the letter, the first login's token of the same second.
  const refreshed = { nonce: nonceOf(origin), jti: "refreshed" };
  await refused(ground, "token-nonce", () => ground.login(refreshed));
  assert.ok((await ground.login(refreshed, { origin })).ok);
});

Deno.test("login() takes a token without a nonce only when it is younger than the challenge", async () => {
  await using ground = await LoginGround.open();
  const iat = Math.floor(Date.now() / 1000);
  const without = (at: number) => ground.login({ nonce: undefined, iat: at, exp: iat + 300 });
  await refused(ground, "token-stale", () => without(iat - 32));
  assert.ok((await without(iat)).ok);
});

Deno.test("login() refuses forged and foreign tokens and says which", async () => {
  await using ground = await LoginGround.open();
  await using other = await OpenidProvider.start();
  const { issuer } = ground.provider;
  const now = Math.floor(Date.now() / 1000);
  const cases: [LoginRefusal, Readonly<Record<string, unknown>>][] = [
    ["token-issuer", { iss: other.issuer }],
    ["token-issuer", { iss: `${issuer}/` }],
    ["token-audience", { aud: "other" }],
    ["token-authorized-party", { aud: ["ginnel", "other"] }],
    ["token-authorized-party", { azp: "other" }],
    ["token-expired", { exp: now - 31 }],
    ["token-nonce", { nonce: "x" }],
    ["token-subject", { sub: "" }],
  ];
  for (const [reason, claims] of cases) await refused(ground, reason, () => ground.login(claims));
  const foreign = await ground.token({}, other.keys[0]);
  await refused(ground, "token-unknown-key", () => ground.login({}, { idToken: foreign }));
  const sameId = await ground.token({}, { ...other.keys[0]!, kid: ground.provider.keys[0]!.kid! });
  await refused(ground, "token-signature", () => ground.login({}, { idToken: sameId }));
  const none = `${base64url.encode(`{"alg":"none"}`)}.${base64url.encode(`{"iss":"${issuer}"}`)}.AA`;
  await refused(ground, "token-algorithm", () => ground.login({}, { idToken: none }));
  const secret = new TextEncoder().encode(JSON.stringify(ground.provider.keys[0]));
  const hmac = await new SignJWT({}).setProtectedHeader({ alg: "HS256" }).sign(secret);
  await refused(ground, "token-algorithm", () => ground.login({}, { idToken: hmac }));
  assert.equal((await ground.store.list("identity", { limit: 10 })).total, 0);
});

Deno.test("login() at one provider takes no token of another, and both may have the same subject", async () => {
  await using ground = await LoginGround.open();
  await using other = await OpenidProvider.start();
  await ground.addProvider("other", { issuer: other.issuer });
  await refused(ground, "token-issuer", () => ground.login({ iss: other.issuer }));
  await refused(ground, "token-unknown-key", () => ground.login({}, { provider: "other" }));
  assert.ok((await ground.login()).ok);
  const { challenge } = await ground.service.challenge();
  const idToken = await ground.token({ iss: other.issuer, nonce: nonceOf(challenge) }, other.keys[0]);
  const second = await ground.login({}, { provider: "other", challenge, idToken });
  assert.ok(second.ok);
  assert.match(second.identity, /\/user\/alice-[0-9a-f]{6}$/);
  const again = await ground.login();
  assert.ok(again.ok && again.identity === ALICE, "nobody's name moves");
});

Deno.test("login() never takes over an identity by its name", async () => {
  await using ground = await LoginGround.open();
  await create(ground, {
    externalId: null,
    roleAttributes: ["boss"],
    adminRole: "admin",
    origin: "enrolment",
  });
  const result = await ground.login();
  assert.ok(result.ok);
  assert.notEqual(result.identity, ALICE);
  const made = await ground.store.find("identity", result.identity);
  assert.deepEqual([made!.spec.roleAttributes, made!.spec.adminRole], [[], null]);
  const renamed = await ground.login({ sub: "u-mallory", preferred_username: "ALICE" });
  assert.ok(renamed.ok && renamed.identity !== ALICE && renamed.identity !== result.identity);
  const mallory = await ground.login({ sub: "u-mallory", preferred_username: "root" });
  assert.ok(
    mallory.ok && mallory.identity === renamed.identity,
    "a new name at the provider changes nothing here",
  );
});

Deno.test("login() finds the identity that an administrator prepared for this very user", async () => {
  await using ground = await LoginGround.open();
  await create(ground, {
    externalId: `${ground.provider.issuer}|u-alice`,
    roleAttributes: ["boss"],
    adminRole: "operator",
  });
  const result = await ground.login({ preferred_username: "somebody", groups: ["dev"] });
  assert.ok(result.ok && result.identity === ALICE);
  const { spec } = (await ground.store.find("identity", ALICE))!;
  assert.deepEqual([spec.roleAttributes, spec.derivedAttributes, spec.adminRole], [
    ["boss"],
    ["dev"],
    "operator",
  ]);
});

Deno.test("login() makes a deleted identity anew, with nothing of the old one, and gives its name to nobody else", async () => {
  await using ground = await LoginGround.open();
  await ground.login({ groups: ["dev"] });
  await ground.change("identity", ALICE, { roleAttributes: ["boss"], adminRole: "admin", tags: { room: 7 } });
  const before = (await ground.store.find("identity", ALICE))!;
  await ground.store.transaction((tx) => tx.remove("identity", before.id));

  const mallory = await ground.login({ sub: "u-mallory" });
  assert.ok(mallory.ok);
  assert.match(mallory.identity, /\/user\/alice-[0-9a-f]{6}$/);
  const again = await ground.login({ groups: ["ops"] });
  assert.ok(again.ok && again.identity === ALICE, "what policies say of alice still means her");
  const after = (await ground.store.find("identity", ALICE))!;
  assert.notEqual(after.id, before.id);
  assert.deepEqual(after.spec, {
    ...before.spec,
    roleAttributes: [],
    derivedAttributes: ["ops"],
    adminRole: null,
    tags: {},
  });
});

Deno.test("login() makes one identity of two first logins at once", async () => {
  await using ground = await LoginGround.open();
  const results = await Promise.all(
    [1, 2, 3, 4].map((i) => ground.login({ preferred_username: `alice${i}` })),
  );
  assert.equal(new Set(results.map((result) => result.ok && result.identity)).size, 1);
  assert.equal((await ground.store.list("identity", { limit: 10 })).total, 1);
});

Deno.test("login() takes back what claims no longer give", async () => {
  await using ground = await LoginGround.open({
    rules: [{ claim: "groups", value: "admins", roleAttributes: ["admins"], adminRole: "admin" }],
  });
  await ground.login({ groups: ["admins"] });
  const before = (await ground.store.find("identity", ALICE))!;
  assert.deepEqual([before.spec.derivedAttributes, before.spec.adminRole], [["admins"], "admin"]);
  await ground.login({ groups: ["admins"] });
  assert.equal((await ground.store.find("identity", ALICE))!.revision, before.revision, "nothing changed");
  await ground.login({ groups: [] });
  const after = (await ground.store.find("identity", ALICE))!;
  assert.deepEqual([after.spec.derivedAttributes, after.spec.adminRole], [[], null]);
});

Deno.test("login() keeps a disabled user out, and leaves what it was", async () => {
  await using ground = await LoginGround.open();
  await ground.login({ groups: ["dev"] });
  await ground.change("identity", ALICE, { disabled: true });
  await refused(ground, "user-disabled", () => ground.login({ groups: ["ops"] }));
  const { spec } = (await ground.store.find("identity", ALICE))!;
  assert.deepEqual([spec.disabled, spec.derivedAttributes], [true, ["dev"]]);
});

Deno.test("login() admits nobody by a provider that is disabled, unknown or unreachable", async () => {
  await using ground = await LoginGround.open();
  await refused(ground, "unknown-provider", () => ground.login({}, { provider: "nobody" }));
  await ground.addProvider("away", { issuer: "http://127.0.0.1:1" });
  await refused(ground, "provider-unreachable", () => ground.login({}, { provider: "away" }));
  await ground.change("auth-provider", "main", { disabled: true });
  await refused(ground, "provider-disabled", () => ground.login());
  assert.deepEqual((await ground.service.providers()).map(({ name }) => name), ["away"]);
});

Deno.test("login() admits only whom a rule matches, where the provider wants that", async () => {
  await using ground = await LoginGround.open({ requireMatch: true });
  await refused(ground, "no-match", () => ground.login({ groups: [] }));
  assert.ok((await ground.login({ groups: ["x"] })).ok);
});

Deno.test("login() refuses a request that asks for another name or shows no key", async () => {
  await using ground = await LoginGround.open();
  const other = await makeCsr(await generateKeyPair(), `spiffe://${LOGIN_DOMAIN}/user/bob`);
  for (const csr of ["", "x", other]) await refused(ground, "request", () => ground.login({}, { csr }));
  assert.equal((await ground.store.list("identity", { limit: 10 })).total, 0);
});

Deno.test("verifyOidcBearer() gives an administrator's role, and nothing for anything less", async () => {
  await using ground = await LoginGround.open({
    rules: [{ claim: "groups", value: "admins", roleAttributes: [], adminRole: "operator" }],
  });
  const { provider } = ground;
  const bearer = async (claims: Readonly<Record<string, unknown>>) =>
    await ground.bearer(await ground.token(claims));
  const good = { groups: ["admins"] };
  assert.deepEqual(await bearer(good), { who: `oidc:${provider.issuer}|u-alice`, role: "operator" });
  for (
    const bad of [
      { groups: ["dev"] },
      { ...good, aud: "other" },
      { ...good, aud: ["ginnel", "other"] },
      { ...good, iss: "https://evil.example" },
      { ...good, exp: Math.floor(Date.now() / 1000) - 31 },
      { ...good, sub: "" },
    ]
  ) assert.equal(await bearer(bad), undefined, JSON.stringify(bad));
  for (
    const text of ["", "gnl_x_y", "a.b.c", respelled(await ground.token(good)).replace(/\..*\./, ".e30.")]
  ) {
    assert.equal(await ground.bearer(text), undefined);
  }
  assert.ok((await ground.login(good)).ok);
  await ground.change("identity", ALICE, { disabled: true });
  assert.equal(await bearer(good), undefined, "disabled");
  await ground.change("identity", ALICE, { disabled: false });
  await ground.change("auth-provider", "main", { disabled: true });
  assert.equal(await bearer(good), undefined, "provider disabled");
});

Deno.test("logout() revokes the certificate", async () => {
  await using ground = await LoginGround.open();
  const result = await ground.login();
  assert.ok(result.ok);
  const { serial } = parseCertificatesPem(result.certificate)[0]!;
  await ground.service.logout({ identity: ALICE, serial }, { remote: "192.0.2.1" });
  assert.deepEqual(await ground.store.revokedSerials(Date.now()), [serial]);
  assert.equal((await ground.lastAudit()).outcome, "logout");
});

async function refused(
  ground: LoginGround,
  reason: LoginRefusal,
  task: () => ReturnType<LoginGround["login"]>,
): Promise<void> {
  assert.deepEqual(await task(), { ok: false, reason });
  const entry = await ground.lastAudit();
  assert.deepEqual([entry.event, entry.outcome, entry.reason], ["login", "denied", reason]);
}

async function create(ground: LoginGround, change: Partial<IdentitySpec>): Promise<void> {
  const spec: IdentitySpec = {
    type: "user",
    spiffeId: ALICE,
    roleAttributes: [],
    derivedAttributes: [],
    disabled: false,
    adminRole: null,
    origin: "oidc",
    externalId: null,
    address: null,
    tags: {},
    ...change,
  };
  const written = await ground.store.transaction((tx) => tx.create("identity", { name: "alice", spec }));
  assert.ok(written.ok);
}

/** The other signature of the same words: (r, n - s) verifies whenever (r, s) does. */
function respelled(token: string): string {
  const order = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n;
  const cut = token.lastIndexOf(".") + 1;
  const signature = base64url.decode(token.slice(cut));
  const s = BigInt(
    `0x${Array.from(signature.slice(32), (byte) => byte.toString(16).padStart(2, "0")).join("")}`,
  );
  const hex = ((order - s % order) % order).toString(16).padStart(64, "0");
  const mirrored = Uint8Array.from(hex.match(/../g)!, (byte) => Number.parseInt(byte, 16));
  return token.slice(0, cut) + base64url.encode(Uint8Array.from([...signature.slice(0, 32), ...mirrored]));
}
