/** Attacks on enrolment tokens: each differs from a good one in one thing, and is refused for that very thing. */

import assert from "node:assert/strict";
import { base64url } from "jose";
import fc from "fast-check";
import { createAuthority } from "../../src/identity/authority.ts";
import {
  MAX_ENROLMENT_TOKEN_LENGTH,
  readEnrolmentToken,
  signEnrolmentToken,
  verifyEnrolmentToken,
} from "../../src/identity/enrolment_token.ts";
import { PROOF_TYPE } from "../../src/identity/proof.ts";
import { VIEW_TYPE } from "../../src/identity/view.ts";
import { DOMAIN, NOW, rejectsWith } from "./forge.ts";

const AUTHORITY = await createAuthority();
const URL_1 = "https://controller.example:8441";
const CLAIMS = {
  iss: URL_1,
  sub: `spiffe://${DOMAIN}/agent/alice`,
  jti: "0123456789abcdef0123",
  iat: NOW / 1000,
  exp: NOW / 1000 + 3600,
  ca: "A".repeat(43),
  ctl: [{ name: "controller-1", url: URL_1 }],
};
const GOOD = { ...CLAIMS, aud: "enrolment", em: "ott" };
const HEADER = { alg: "ES256", typ: "ginnel-enrolment+jwt", kid: AUTHORITY.kid };

Deno.test("a token says the same to the device and to the controller", async () => {
  const token = await signEnrolmentToken(AUTHORITY, { ...CLAIMS, caNext: "B".repeat(43) });
  const verified = await verify(token);
  assert.deepEqual(readEnrolmentToken(token, { now: NOW }), verified);
  assert.deepEqual(verified.claims, { ...GOOD, caNext: "B".repeat(43) });
  assert.equal(verified.id.uri, GOOD.sub);
});

Deno.test("verifyEnrolmentToken() refuses one of another network or controller, and by another key", async () => {
  const other = await createAuthority();
  const foreign = await signEnrolmentToken(other, CLAIMS);
  await rejectsWith("ERR_ENROLMENT_TOKEN_AUTHORITY", () => verify(foreign));
  const posing = await signEnrolmentToken({ ...other, kid: AUTHORITY.kid }, CLAIMS);
  await rejectsWith("ERR_ENROLMENT_TOKEN_SIGNATURE", () => verify(posing));
  const elsewhere = await sign({ iss: "https://elsewhere.example" });
  await rejectsWith("ERR_ENROLMENT_TOKEN_ISSUER", () => verify(elsewhere));
  const strange = await sign({ sub: "spiffe://other.internal/agent/alice" });
  await rejectsWith("ERR_ENROLMENT_TOKEN_TRUST_DOMAIN", () => verify(strange));
});

Deno.test("[RFC7519-4.1.3] verifyEnrolmentToken() and readEnrolmentToken() refuse another audience", async () => {
  for (const aud of ["login", "controller-1", ""]) await refuses("ERR_ENROLMENT_TOKEN_AUDIENCE", { aud });
  for (const aud of [undefined, ["enrolment"], null]) await refuses("ERR_ENROLMENT_TOKEN_MALFORMED", { aud });
});

Deno.test("[RFC7519-4.1.4] tokens expire to the second; a device allows for clocks, the controller does not", async () => {
  await refuses("ERR_ENROLMENT_TOKEN_EXPIRED", { exp: NOW / 1000 - 30 });
  const justNow = await sign({ exp: NOW / 1000 });
  await rejectsWith("ERR_ENROLMENT_TOKEN_EXPIRED", () => verify(justNow));
  assert.ok(readEnrolmentToken(justNow, { now: NOW }));
  assert.ok(await verify(await sign({ exp: NOW / 1000 + 1 })));
  await refuses("ERR_ENROLMENT_TOKEN_NOT_YET_VALID", { iat: NOW / 1000 + 31 });
});

Deno.test("tokens that lack something, or have it in another form, are refused", async () => {
  const wrong: Record<string, unknown>[] = [
    { iss: undefined },
    { iss: "http://controller.example" },
    { sub: undefined },
    { sub: "alice" },
    { sub: `spiffe://${DOMAIN}/root/alice` },
    { jti: undefined },
    { jti: "short" },
    { exp: undefined },
    { exp: "tomorrow" },
    { em: "ottca" },
    { ca: undefined },
    { ca: "A".repeat(42) },
    { ctl: undefined },
    { ctl: [] },
    { ctl: [{ name: "controller-1", url: "http://controller.example" }] },
    { ctl: [{ name: "x.evil.example", url: URL_1 }] },
  ];
  for (const claims of wrong) await refuses("ERR_ENROLMENT_TOKEN_MALFORMED", claims);
});

Deno.test("tokens of every algorithm but ES256, and every other kind of token, are refused", async () => {
  for (const alg of ["none", "HS256", "RS256", undefined]) {
    await refuses("ERR_ENROLMENT_TOKEN_ALGORITHM", {}, { alg });
  }
  for (const typ of [VIEW_TYPE, PROOF_TYPE, "JWT", undefined]) {
    await refuses("ERR_ENROLMENT_TOKEN_MALFORMED", {}, { typ });
  }
  await refuses("ERR_ENROLMENT_TOKEN_MALFORMED", {}, { kid: undefined });
});

Deno.test("verifyEnrolmentToken() refuses a token altered anywhere, and both refuse one cut off anywhere", async () => {
  const token = await sign({});
  const [header, , signature] = token.split(".");
  const altered = `${header}.${encode({ ...GOOD, sub: `spiffe://${DOMAIN}/relay/relay-1` })}.${signature}`;
  await rejectsWith("ERR_ENROLMENT_TOKEN_SIGNATURE", () => verify(altered));
  for (let length = 0; length < token.length; length += 13) {
    const cut = token.slice(0, length);
    await assert.rejects(() => verify(cut), { name: "IdentityError" }, String(length));
    if (cut.split(".").length < 3) {
      await rejectsWith("ERR_ENROLMENT_TOKEN_MALFORMED", () => read(cut));
    }
  }
});

Deno.test("tokens have a largest size, at both ends, and any text is answered with an IdentityError", async () => {
  const long = "x".repeat(MAX_ENROLMENT_TOKEN_LENGTH + 1);
  await rejectsWith("ERR_ENROLMENT_TOKEN_TOO_LARGE", () => verify(long));
  await rejectsWith("ERR_ENROLMENT_TOKEN_TOO_LARGE", () => read(long));
  const ctl = Array.from({ length: 16 }, (_, index) => ({
    name: `controller-${index}`,
    url: `https://c${index}.example/${"x".repeat(900)}`,
  }));
  await rejectsWith("ERR_ENROLMENT_TOKEN_TOO_LARGE", () => signEnrolmentToken(AUTHORITY, { ...CLAIMS, ctl }));
  const json = fc.json().map((text) => base64url.encode(text));
  const part = fc.oneof(fc.string(), json, fc.constant(encode(HEADER)));
  await fc.assert(fc.asyncProperty(fc.array(part, { minLength: 1, maxLength: 4 }), async (parts) => {
    await assert.rejects(() => verify(parts.join(".")), { name: "IdentityError" });
    await assert.rejects(() => read(parts.join(".")), { name: "IdentityError" });
  }));
});

async function refuses(code: string, claims: object, header: object = {}): Promise<void> {
  const token = await sign(claims, header);
  await rejectsWith(code, () => verify(token));
  await rejectsWith(code, () => read(token));
}

async function read(token: string) {
  return await Promise.resolve(token).then((text) => readEnrolmentToken(text, { now: NOW }));
}

function verify(token: string) {
  const authorities = [AUTHORITY.publicJwk];
  return verifyEnrolmentToken(token, { authorities, trustDomain: DOMAIN, issuers: [URL_1], now: NOW });
}

async function sign(claims: object, header: object = {}): Promise<string> {
  const input = `${encode({ ...HEADER, ...header })}.${encode({ ...GOOD, ...claims })}`;
  const algorithm = { name: "ECDSA", hash: "SHA-256" };
  const bytes = new TextEncoder().encode(input);
  const signature = await crypto.subtle.sign(algorithm, AUTHORITY.privateKey, bytes);
  return `${input}.${base64url.encode(new Uint8Array(signature))}`;
}

function encode(value: unknown): string {
  return base64url.encode(JSON.stringify(value));
}
