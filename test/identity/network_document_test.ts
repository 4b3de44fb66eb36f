/** Attacks on network documents: each differs from a good one in one thing, and is refused for that very thing. */

import assert from "node:assert/strict";
import { base64url, type JWK } from "jose";
import fc from "fast-check";
import { createAuthority } from "../../src/identity/authority.ts";
import {
  MAX_NETWORK_DOCUMENT_LENGTH,
  type NetworkDocument,
  signNetworkDocument,
  verifyNetworkDocument,
  type VerifyNetworkDocumentOptions,
} from "../../src/identity/network_document.ts";
import { VIEW_TYPE } from "../../src/identity/view.ts";
import { createTestNetwork, DOMAIN, forge, NOW, rejectsWith } from "./forge.ts";

const NETWORK = await createTestNetwork();
const AUTHORITY = NETWORK.authority;
const FOREIGN = await forge({ ca: true, names: [{ type: "url", value: "spiffe://partner.example" }] });
const GOOD: NetworkDocument = {
  rev: 7,
  iat: NOW / 1000,
  trustDomain: DOMAIN,
  roots: [NETWORK.ca.certificatePem],
  authorities: [AUTHORITY.publicJwk],
  controllers: [{ name: "controller-1", url: "https://controller.example:8441" }],
  relays: [{ name: "relay-1", address: "relay.example:4433" }],
  trustDomains: [{ name: "partner.example", roots: [FOREIGN.pem] }],
  revoked: ["4F00AA"],
};
const HEADER = { alg: "ES256", typ: "ginnel-network+jwt", kid: AUTHORITY.kid };

Deno.test("verifyNetworkDocument() gives back what signNetworkDocument() signed", async () => {
  assert.deepEqual(await verify(await signNetworkDocument(AUTHORITY, GOOD)), GOOD);
});

Deno.test("verifyNetworkDocument() refuses a key that is no authority's, also under its key id", async () => {
  const other = await createAuthority();
  await rejectsWith(
    "ERR_NETWORK_DOCUMENT_AUTHORITY",
    async () => verify(await signNetworkDocument(other, GOOD)),
  );
  const posing = { ...other, kid: AUTHORITY.kid };
  await rejectsWith(
    "ERR_NETWORK_DOCUMENT_SIGNATURE",
    async () => verify(await signNetworkDocument(posing, GOOD)),
  );
  const bringing = { header: { jwk: other.publicJwk }, key: other.privateKey };
  await rejectsWith("ERR_NETWORK_DOCUMENT_SIGNATURE", async () => verify(await sign({}, bringing)));
});

Deno.test("verifyNetworkDocument() refuses another network's document", async () => {
  const options = { trustDomain: "other.internal" };
  await rejectsWith("ERR_NETWORK_DOCUMENT_TRUST_DOMAIN", async () => verify(await sign({}), options));
});

Deno.test("verifyNetworkDocument() refuses what is older, by revision and then by time", async () => {
  const jws = await sign({});
  for (const good of [{ minRev: 6, minIat: GOOD.iat + 9 }, { minRev: 7 }, { minRev: 7, minIat: GOOD.iat }]) {
    assert.equal((await verify(jws, good)).rev, 7);
  }
  for (const late of [{ minRev: 8 }, { minRev: 7, minIat: GOOD.iat + 1 }]) {
    await rejectsWith("ERR_NETWORK_DOCUMENT_OUTDATED", () => verify(jws, late));
  }
});

Deno.test("verifyNetworkDocument() refuses every algorithm but ES256", async () => {
  for (const alg of ["none", "HS256", "RS256", undefined]) {
    await rejectsWith(
      "ERR_NETWORK_DOCUMENT_ALGORITHM",
      async () => verify(await sign({}, { header: { alg } })),
    );
  }
});

Deno.test("verifyNetworkDocument() refuses another kind of token, such as a view", async () => {
  for (const header of [{ typ: VIEW_TYPE }, { typ: undefined }, { kid: undefined }, { crit: ["x"], x: 1 }]) {
    await rejectsWith("ERR_NETWORK_DOCUMENT_MALFORMED", async () => verify(await sign({}, { header })));
  }
});

Deno.test("verifyNetworkDocument() refuses an altered one and one cut off anywhere", async () => {
  const jws = await sign({});
  const [header, , signature] = jws.split(".");
  const altered = `${header}.${encode({ ...GOOD, revoked: [] })}.${signature}`;
  await rejectsWith("ERR_NETWORK_DOCUMENT_SIGNATURE", () => verify(altered));
  for (let length = 0; length < jws.length; length += 97) {
    await assert.rejects(() => verify(jws.slice(0, length)), { name: "IdentityError" }, String(length));
  }
});

Deno.test("verifyNetworkDocument() refuses what would leave a node without usable trust", async () => {
  const leaf = await forge();
  const wrong: Record<string, unknown>[] = [
    { roots: [] },
    { roots: ["-----BEGIN CERTIFICATE-----"] },
    { roots: [leaf.pem] },
    { roots: new Array(17).fill(NETWORK.ca.certificatePem) },
    { authorities: [] },
    { authorities: [AUTHORITY.privateJwk] },
    { trustDomains: [{ name: DOMAIN, roots: [FOREIGN.pem] }] },
    { trustDomains: [{ name: "partner.example", roots: [] }] },
    { controllers: [{ name: "controller-1", url: "http://controller.example" }] },
    { revoked: ["4f00"] },
    { rev: -1 },
    { iat: undefined },
  ];
  for (const claims of wrong) {
    await rejectsWith("ERR_NETWORK_DOCUMENT_MALFORMED", async () => verify(await sign(claims)));
  }
});

Deno.test("network documents have a largest size, at both ends", async () => {
  const long = "x".repeat(MAX_NETWORK_DOCUMENT_LENGTH + 1);
  await rejectsWith("ERR_NETWORK_DOCUMENT_TOO_LARGE", () => verify(long));
  const roots = new Array(16).fill("x".repeat(16_000));
  const trustDomains = Array.from({ length: 8 }, (_, index) => ({ name: `d${index}`, roots }));
  const large = { ...GOOD, trustDomains };
  await rejectsWith("ERR_NETWORK_DOCUMENT_TOO_LARGE", () => signNetworkDocument(AUTHORITY, large));
});

Deno.test("verifyNetworkDocument() answers any text with an IdentityError", async () => {
  const json = fc.json().map((text) => base64url.encode(text));
  const part = fc.oneof(fc.string(), json, fc.constant(encode(HEADER)));
  await fc.assert(fc.asyncProperty(fc.array(part, { minLength: 1, maxLength: 4 }), async (parts) => {
    await assert.rejects(() => verify(parts.join(".")), { name: "IdentityError" });
  }));
});

function verify(jws: string, options: Partial<VerifyNetworkDocumentOptions> = {}): Promise<NetworkDocument> {
  const authorities = [AUTHORITY.publicJwk] as JWK[];
  return verifyNetworkDocument(jws, { authorities, trustDomain: DOMAIN, ...options });
}

async function sign(
  claims: Record<string, unknown>,
  options: { readonly header?: Record<string, unknown>; readonly key?: CryptoKey } = {},
): Promise<string> {
  const { header = {}, key = AUTHORITY.privateKey } = options;
  const input = `${encode({ ...HEADER, ...header })}.${encode({ ...GOOD, ...claims })}`;
  const algorithm = { name: "ECDSA", hash: "SHA-256" };
  const signature = await crypto.subtle.sign(algorithm, key, new TextEncoder().encode(input));
  return `${input}.${base64url.encode(new Uint8Array(signature))}`;
}

function encode(value: unknown): string {
  return base64url.encode(JSON.stringify(value));
}
