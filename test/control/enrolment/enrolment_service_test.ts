/** Enrolment under attack, on a real database: what a token, a request or a proof may not do, and that it is on record. */

import assert from "node:assert/strict";
import { verifyChain } from "../../../src/identity/chain.ts";
import { makeCsr } from "../../../src/identity/csr.ts";
import { readEnrolmentToken, signEnrolmentToken } from "../../../src/identity/enrolment_token.ts";
import { generateKeyPair } from "../../../src/identity/key_pair.ts";
import { decodePem, encodePem } from "../../../src/identity/pem.ts";
import { parseSpiffeId } from "../../../src/identity/spiffe_id.ts";
import { parseCertificatesPem } from "../../../src/identity/certificate.ts";
import { DOMAIN, EnrolmentGround } from "../../support/enrolment_ground.ts";

const FROM = { remote: "192.0.2.7" };
const ALICE = `spiffe://${DOMAIN}/agent/alice`;

Deno.test("enrol() takes a token once: the second use is refused, and both are on record", () =>
  onGround(async (ground) => {
    const id = await ground.addIdentity("alice");
    const token = await ground.token(id);
    const first = await enrol(ground, token);
    assert.ok(first.ok);
    const { serial } = parseCertificatesPem(first.certificate)[0]!;
    const again = await enrol(ground, token);
    assert.deepEqual([again.ok, !again.ok && again.reason], [false, "token-used"]);
    const [one, two, ...others] = await ground.audit();
    assert.deepEqual(others, []);
    assert.deepEqual([one!.who, one!.outcome, one!.detail.serial], [ALICE, "ok", serial]);
    assert.deepEqual([two!.who, two!.outcome, two!.detail.reason], [ALICE, "denied", "token-used"]);
    assert.equal(two!.detail.remote, FROM.remote);
    const [record] = await ground.store.certificates(id);
    assert.deepEqual([record!.serial, record!.issuer, record!.revokedAt], [serial, ground.ca.issuer, null]);
    for (const secret of [token, token.split(".")[2]!]) {
      assert.ok(!JSON.stringify(await ground.audit()).includes(secret), "the log holds the token");
    }
  }));

Deno.test("of twenty enrolments at once with one token one succeeds", () =>
  onGround(async (ground) => {
    const id = await ground.addIdentity("alice");
    const token = await ground.token(id);
    const results = await Promise.all(Array.from({ length: 20 }, () => enrol(ground, token)));
    assert.equal(results.filter(({ ok }) => ok).length, 1);
    assert.equal((await ground.store.certificates(id)).length, 1);
    const reasons = results.filter((result) => !result.ok).map(({ reason }) => reason);
    assert.deepEqual([...new Set(reasons)], ["token-used"]);
  }));

Deno.test("enrol() refuses tokens that are expired, altered, for another purpose, or of somebody else", () =>
  onGround(async (ground) => {
    await using other = await EnrolmentGround.open();
    const id = await ground.addIdentity("alice");
    const good = await ground.token(id);
    const { claims } = readEnrolmentToken(good, { now: Date.now() });
    const [header, , signature] = good.split(".");
    const encode = (value: object) =>
      new TextEncoder().encode(JSON.stringify(value)).toBase64({
        alphabet: "base64url",
        omitPadding: true,
      });
    const relay = { ...claims, sub: `spiffe://${DOMAIN}/relay/relay-1` };
    const wrong: Record<string, string> = {
      ERR_ENROLMENT_TOKEN_SIGNATURE: `${header}.${encode(relay)}.${signature}`,
      ERR_ENROLMENT_TOKEN_AUTHORITY: await other.token(await other.addIdentity("alice")),
      ERR_ENROLMENT_TOKEN_ISSUER: await sign({ iss: "https://elsewhere.example" }),
      ERR_ENROLMENT_TOKEN_TRUST_DOMAIN: await sign({ sub: "spiffe://other.internal/agent/alice" }),
      ERR_ENROLMENT_TOKEN_AUDIENCE: await signRaw({ ...claims, aud: "login" }),
      ERR_ENROLMENT_TOKEN_MALFORMED: "x.y.z",
      ERR_ENROLMENT_TOKEN_ALGORITHM: `${encode({ alg: "none", typ: "ginnel-enrolment+jwt" })}.${
        encode(claims)
      }.`,
    };
    for (const [code, token] of Object.entries(wrong)) {
      const result = await enrol(ground, token);
      assert.ok(!result.ok && result.reason === "token", code);
      const entry = (await ground.audit()).at(-1)!;
      assert.deepEqual([entry.who, entry.outcome, entry.detail.code], ["unknown", "denied", code]);
    }
    ground.ahead = 2 * ground.life.token;
    const late = await enrol(ground, good);
    assert.ok(!late.ok && late.reason === "token");
    assert.equal((await ground.audit()).at(-1)!.detail.code, "ERR_ENROLMENT_TOKEN_EXPIRED");
    assert.equal((await ground.store.certificates(id)).length, 0);

    function sign(change: object) {
      return signEnrolmentToken(ground.ca.authority, { ...claims, ...change });
    }
    async function signRaw(payload: object) {
      const input = `${header}.${encode(payload)}`;
      const algorithm = { name: "ECDSA", hash: "SHA-256" };
      const bytes = new TextEncoder().encode(input);
      const made = new Uint8Array(await crypto.subtle.sign(algorithm, ground.ca.authority.privateKey, bytes));
      return `${input}.${made.toBase64({ alphabet: "base64url", omitPadding: true })}`;
    }
  }));

Deno.test("enrol() refuses a token that was signed but never stored, or was taken back", () =>
  onGround(async (ground) => {
    const id = await ground.addIdentity("alice");
    const token = await ground.token(id);
    const { claims } = readEnrolmentToken(token, { now: Date.now() });
    const made = await signEnrolmentToken(ground.ca.authority, { ...claims, jti: "f".repeat(32) });
    await refuses(ground, made, "token-unknown");
    await ground.store.transaction((tx) => tx.removeEnrolments(id));
    await refuses(ground, token, "token-unknown");
  }));

Deno.test("enrol() does not let one identity's token serve another", () =>
  onGround(async (ground) => {
    const alice = await ground.addIdentity("alice");
    await ground.addIdentity("bob");
    const token = await ground.token(alice);
    const { claims } = readEnrolmentToken(token, { now: Date.now() });
    // Only whoever has the authority's key can make this; the record of the enrolment still decides.
    const crossed = await signEnrolmentToken(ground.ca.authority, {
      ...claims,
      sub: `spiffe://${DOMAIN}/agent/bob`,
    });
    const csr = await ground.csr("bob");
    const result = await ground.service.enrol({ token: crossed, csr }, FROM);
    assert.ok(!result.ok && result.reason === "identity-unknown");
    assert.ok((await enrol(ground, token)).ok, "the refused attempt used the token up");
  }));

Deno.test("enrol() gives a disabled, a deleted and a provider's identity nothing, and does not use the token up", () =>
  onGround(async (ground) => {
    const id = await ground.addIdentity("alice");
    const token = await ground.token(id);
    await ground.changeIdentity(id, { disabled: true });
    await refuses(ground, token, "identity-disabled");
    await ground.changeIdentity(id, { disabled: false, origin: "oidc" });
    await refuses(ground, token, "login-needed");
    await ground.changeIdentity(id, { origin: "enrolment" });
    assert.ok((await enrol(ground, token)).ok);
    const second = await ground.token(id);
    await ground.store.transaction((tx) => tx.remove("identity", id));
    await refuses(ground, second, "identity-unknown");
    // A new identity of the same name is another identity.
    await ground.addIdentity("alice");
    const after = await enrol(ground, second);
    assert.ok(!after.ok, "the token of a deleted identity served its successor");
  }));

Deno.test("enrol() refuses requests that are not the device's own or ask for another name, token unharmed", () =>
  onGround(async (ground) => {
    const token = await ground.token(await ground.addIdentity("alice"));
    const bad = [
      "",
      "x".repeat(10_000),
      await ground.csr("bob"),
      await ground.csr("alice", "relay"),
      withBadSignature(await ground.csr("alice")),
    ];
    for (const csr of bad) {
      const result = await ground.service.enrol({ token, csr }, FROM);
      assert.ok(!result.ok && result.reason === "csr", csr.slice(0, 60));
    }
    assert.ok((await enrol(ground, token)).ok);
  }));

Deno.test("enrolling again revokes every certificate that the identity had", () =>
  onGround(async (ground) => {
    const id = await ground.addIdentity("alice");
    const first = await enrol(ground, await ground.token(id));
    const second = await enrol(ground, await ground.token(id));
    assert.ok(first.ok && second.ok);
    const [old, current] = [first, second].map(({ certificate }) =>
      parseCertificatesPem(certificate)[0]!.serial
    );
    assert.deepEqual(await ground.store.revokedSerials(Date.now()), [old]);
    assert.deepEqual((await ground.audit()).at(-1)!.detail.revoked, [old]);
    assert.equal((await ground.store.certificate(current!))!.revokedAt, null);
  }));

Deno.test("certificates are for the requested key, the token's identity, and live as long as their kind does", () =>
  onGround(async (ground) => {
    const alice = await ground.addIdentity("alice");
    const carol = await ground.addIdentity("carol", {
      type: "user",
      spiffeId: `spiffe://${DOMAIN}/user/carol`,
    });
    for (
      const [id, kind, name, life] of [
        [alice, "agent", "alice", ground.life.node],
        [carol, "user", "carol", ground.life.user],
      ] as const
    ) {
      const keys = await generateKeyPair();
      const csr = await makeCsr(keys, `spiffe://${DOMAIN}/${kind}/${name}`);
      const result = await ground.service.enrol({ token: await ground.token(id), csr }, FROM);
      assert.ok(result.ok);
      const chain = await verifyChain({
        chain: result.certificate,
        roots: ground.ca.roots(),
        now: Date.now(),
      });
      assert.equal(chain.id.uri, `spiffe://${DOMAIN}/${kind}/${name}`);
      assert.ok(Math.abs(chain.notAfter - Date.now() - life) < 60_000);
      const raw = async (key: CryptoKey) => new Uint8Array(await crypto.subtle.exportKey("raw", key));
      assert.deepEqual(await raw(chain.publicKey), await raw(keys.publicKey));
    }
  }));

Deno.test("createToken() makes none for what does not enrol, and none without an end", () =>
  onGround(async (ground) => {
    const cases: [string, Parameters<EnrolmentGround["addIdentity"]>[1]][] = [
      ["off", { disabled: true }],
      ["sso", { origin: "oidc" }],
      ["w", { type: "workload", spiffeId: "spiffe://partner.example/w" }],
      ["c", { type: "controller", spiffeId: `spiffe://${DOMAIN}/controller/c` }],
    ];
    for (const [name, change] of cases) {
      const made = await ground.service.createToken(await ground.addIdentity(name, change), { by: "x" });
      assert.ok(!made.ok && made.fault === "conflict", name);
    }
    const missing = await ground.service.createToken(crypto.randomUUID(), { by: "x" });
    assert.ok(!missing.ok && missing.fault === "missing");
    const id = await ground.addIdentity("alice");
    for (const ttlMs of [0, -1, NaN, Infinity, 31 * 86_400_000]) {
      const made = await ground.service.createToken(id, { by: "x", ttlMs });
      assert.ok(!made.ok && made.fault === "invalid", String(ttlMs));
    }
    assert.deepEqual(await ground.store.enrolments(id), []);
  }));

Deno.test("createToken() is on record, with who asked and without the token", () =>
  onGround(async (ground) => {
    const token = await ground.token(await ground.addIdentity("alice"));
    const [entry] = await ground.store.queryAudit({ event: "admin", limit: 1 });
    assert.deepEqual([entry!.who, entry!.target, entry!.detail.action], [
      "token:admin",
      "identity/alice",
      "create-enrolment",
    ]);
    assert.ok(!JSON.stringify(entry).includes(token.split(".")[2]!));
  }));

Deno.test("renew() gives the next certificate; the one before stays good", () =>
  onGround(async (ground) => {
    const id = await ground.addIdentity("alice");
    const first = await enrol(ground, await ground.token(id));
    assert.ok(first.ok);
    const serial = serialOf(first.certificate);
    const renewed = await renew(ground, serial);
    assert.ok(renewed.ok);
    assert.notEqual(serialOf(renewed.certificate), serial);
    assert.equal((await ground.store.certificate(serial))!.revokedAt, null);
    assert.deepEqual((await ground.audit()).at(-1)!.detail.by, serial);
  }));

Deno.test("renew() refuses the revoked, the disabled, the deleted, the provider's and strangers, on record", () =>
  onGround(async (ground) => {
    const id = await ground.addIdentity("alice");
    const first = await enrol(ground, await ground.token(id));
    assert.ok(first.ok);
    const serial = serialOf(first.certificate);
    const refused = async (reason: string, spiffeId = ALICE) => {
      const result = await renew(ground, serial, spiffeId);
      assert.ok(!result.ok && result.reason === reason, `${JSON.stringify(result)} is not ${reason}`);
      assert.equal((await ground.audit()).at(-1)!.detail.reason, reason);
    };
    await refused("identity-unknown", `spiffe://${DOMAIN}/controller/controller-1`);
    await refused("identity-unknown", `spiffe://${DOMAIN}/agent/mallory`);
    await ground.changeIdentity(id, { disabled: true });
    await refused("identity-disabled");
    await ground.changeIdentity(id, { disabled: false, origin: "oidc" });
    await refused("login-needed");
    await ground.changeIdentity(id, { origin: "enrolment" });
    await ground.store.transaction((tx) => tx.revokeCertificates({ identityId: id }, Date.now()));
    await refused("certificate-revoked");
    const left = (await ground.store.certificates(id)).filter(({ revokedAt }) => revokedAt === null);
    assert.deepEqual(left, [], "a renewal outlived the revocation");
    await ground.store.transaction((tx) => tx.remove("identity", id));
    await refused("identity-unknown");
  }));

Deno.test("no renewal outlives a revocation made at the same time", () =>
  onGround(async (ground) => {
    const id = await ground.addIdentity("alice");
    for (let round = 0; round < 5; round++) {
      const first = await enrol(ground, await ground.token(id));
      assert.ok(first.ok);
      const serial = serialOf(first.certificate);
      const renewals = Array.from({ length: 4 }, () => renew(ground, serial));
      const revoking = ground.store.transaction((tx) =>
        tx.revokeCertificates({ identityId: id }, Date.now())
      );
      await Promise.all([...renewals, revoking]);
      const left = (await ground.store.certificates(id)).filter(({ revokedAt }) => revokedAt === null);
      assert.deepEqual(left, [], `round ${round}`);
    }
  }));

Deno.test("a flood of nonsense is counted in the audit log, not written down", () =>
  onGround(async (ground) => {
    for (let count = 0; count < 50; count++) await enrol(ground, "x.y.z");
    assert.equal((await ground.audit()).length, 30);
    // What holders of real tokens do is written down all the same.
    assert.ok((await enrol(ground, await ground.token(await ground.addIdentity("alice")))).ok);
    assert.equal((await ground.audit()).length, 31);
    ground.ahead = 61_000;
    await enrol(ground, "x.y.z");
    assert.equal((await ground.audit()).at(-1)!.detail.furtherRefusals, 20);
  }));

async function enrol(ground: EnrolmentGround, token: string) {
  return await ground.service.enrol({ token, csr: await ground.csr("alice") }, FROM);
}

async function refuses(ground: EnrolmentGround, token: string, reason: string): Promise<void> {
  const result = await enrol(ground, token);
  assert.ok(!result.ok && result.reason === reason, `${JSON.stringify(result)} is not ${reason}`);
  assert.equal((await ground.audit()).at(-1)!.detail.reason, reason);
}

async function renew(ground: EnrolmentGround, certificateSerial: string, spiffeId = ALICE) {
  const id = parseSpiffeId(spiffeId);
  const csr = await makeCsr(await generateKeyPair(), spiffeId);
  return await ground.service.renew({ id, certificateSerial }, { csr }, FROM);
}

function withBadSignature(csr: string): string {
  const der = decodePem("CERTIFICATE REQUEST", csr)[0]!;
  der[der.length - 1]! ^= 1;
  return encodePem("CERTIFICATE REQUEST", der);
}

function serialOf(certificate: string): string {
  return parseCertificatesPem(certificate)[0]!.serial;
}

async function onGround(test: (ground: EnrolmentGround) => Promise<void>): Promise<void> {
  await using ground = await EnrolmentGround.open();
  await test(ground);
}
