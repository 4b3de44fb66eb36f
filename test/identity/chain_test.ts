/**
 * Attacks on certificate chains. Each chain differs from a good one in one thing, and each is refused for
 * that very thing.
 */

import "reflect-metadata";
import { ExtendedKeyUsage, Extension, type JsonGeneralNames, KeyUsageFlags } from "@peculiar/x509";
import assert from "node:assert/strict";
import { verifyChain, type VerifyChainOptions } from "../../src/identity/chain.ts";
import { createCa, issueCertificate } from "../../src/identity/pki.ts";
import {
  createTestNetwork,
  DOMAIN,
  forge,
  type Forged,
  type ForgeOptions,
  generateKeys,
  NOW,
  rejectsWith,
} from "./forge.ts";

const DAY = 86_400_000;
const ROOT = await forge({ subject: "CN=Root", ca: true });

Deno.test("verifyChain() accepts a leaf straight from the root", async () => {
  const leaf = await forge({ issuer: ROOT });
  const chain = await verify([leaf]);
  assert.equal(chain.id.uri, `spiffe://${DOMAIN}/agent/forged`);
  assert.equal(chain.notAfter, NOW + DAY);
  assert.equal(chain.publicKey.type, "public");
  assert.match(chain.serial, /^[0-9A-F]+$/);
});

Deno.test("verifyChain() accepts intermediates, as DER and as PEM, with or without the root", async () => {
  const [one, two, leaf] = await makePath(2);
  for (const chain of [[leaf, two, one], [leaf, two, one, ROOT]]) {
    assert.equal((await verify(chain)).id.name, "forged");
    assert.equal((await verifyPem(chain)).id.name, "forged");
  }
});

Deno.test("verifyChain() gives the validity that the whole chain shares", async () => {
  const intermediate = await forge({
    subject: "CN=I",
    ca: true,
    issuer: ROOT,
    notBefore: NOW - 1000,
    notAfter: NOW + 1000,
  });
  const chain = await verify([await forge({ issuer: intermediate }), intermediate]);
  assert.equal(chain.notBefore, NOW - 1000);
  assert.equal(chain.notAfter, NOW + 1000);
});

Deno.test("verifyChain() refuses a chain of another CA", async () => {
  const other = await forge({ subject: "CN=Other", ca: true });
  const leaf = await forge({ issuer: other });
  await rejectsWith("ERR_CERT_UNTRUSTED", () => verify([leaf]));
  await rejectsWith("ERR_CERT_UNTRUSTED", () => verify([leaf, other]));
});

Deno.test("verifyChain() refuses a forged CA with the trusted CA's name", async () => {
  const twin = await forge({ subject: "CN=Root", ca: true });
  await rejectsWith("ERR_CERT_SIGNATURE", () => forge({ issuer: twin }).then((leaf) => verify([leaf])));
  await rejectsWith("ERR_CERT_SIGNATURE", () => forge({ issuer: twin }).then((leaf) => verify([leaf, twin])));
});

Deno.test("verifyChain() refuses it also when the forger copied the trusted CA's key identifier", async () => {
  const twin = await forge({ subject: "CN=Root", ca: true });
  const leaf = await forge({ issuer: twin, authorityKeyId: ROOT.keys.publicKey });
  await rejectsWith("ERR_CERT_SIGNATURE", () => verify([leaf]));
  await rejectsWith(
    "ERR_CERT_SIGNATURE",
    () => forge({ issuer: twin, authorityKeyId: null }).then((l) => verify([l])),
  );
});

Deno.test("verifyChain() picks the right one of two trusted CAs with one name", async () => {
  const twin = await forge({ subject: "CN=Root", ca: true });
  const leaf = await forge({ issuer: twin });
  assert.equal((await verify([leaf], { roots: [ROOT.pem, twin.pem] })).id.name, "forged");
});

Deno.test("verifyChain() refuses a forged intermediate", async () => {
  const [intermediate] = await makePath(1);
  const twin = await forge({ subject: intermediate!.subject, ca: true, issuer: ROOT });
  const leaf = await forge({
    issuer: { subject: twin.subject, keys: await generateKeys() },
    authorityKeyId: null,
  });
  await rejectsWith("ERR_CERT_SIGNATURE", () => verify([leaf, twin]));
});

Deno.test("verifyChain() refuses a leaf that acts as a CA", async () => {
  const leaf = await forge({ subject: "CN=leaf", issuer: ROOT });
  const minted = await forge({ subject: "CN=minted", issuer: leaf, names: spiffe("/agent/root") });
  await rejectsWith("ERR_CERT_ISSUER_NOT_CA", () => verify([minted, leaf]));
});

Deno.test("verifyChain() refuses an issuer without the keyCertSign usage, or without basic constraints", async () => {
  for (
    const flaw of [{ keyUsage: KeyUsageFlags.cRLSign }, { keyUsage: null }, {
      ca: null,
      keyUsage: KeyUsageFlags.keyCertSign,
    }]
  ) {
    const issuer = await forge({ subject: "CN=I", ca: true, issuer: ROOT, ...flaw });
    const leaf = await forge({ issuer });
    await rejectsWith("ERR_CERT_ISSUER_NOT_CA", () => verify([leaf, issuer]));
  }
});

Deno.test("verifyChain() refuses a trusted root that is no CA", async () => {
  const root = await forge({ subject: "CN=Root" });
  const leaf = await forge({ issuer: root });
  await rejectsWith("ERR_CERT_ISSUER_NOT_CA", () => verify([leaf], { roots: [root.pem] }));
});

Deno.test("verifyChain() keeps to the path length of roots and intermediates [RFC5280-6.1.4]", async () => {
  const root = await forge({ subject: "CN=Root", ca: true, pathLength: 0 });
  assert.equal((await verify([await forge({ issuer: root })], { roots: [root.pem] })).id.name, "forged");
  const one = await forge({ subject: "CN=1", ca: true, issuer: root });
  const leaf = await forge({ issuer: one });
  await rejectsWith("ERR_CERT_PATH_LENGTH", () => verify([leaf, one], { roots: [root.pem] }));
  const capped = await forge({ subject: "CN=1", ca: true, issuer: ROOT, pathLength: 0 });
  const two = await forge({ subject: "CN=2", ca: true, issuer: capped });
  const below = await forge({ issuer: two });
  await rejectsWith("ERR_CERT_PATH_LENGTH", () => verify([below, two, capped]));
});

Deno.test("verifyChain() refuses an expired and a not yet valid leaf, at the exact second", async () => {
  const leaf = await forge({ issuer: ROOT, notBefore: NOW - 1000, notAfter: NOW + 1000 });
  assert.ok(await verify([leaf], { now: NOW - 1000 }));
  assert.ok(await verify([leaf], { now: NOW + 1000 }));
  await rejectsWith("ERR_CERT_NOT_YET_VALID", () => verify([leaf], { now: NOW - 1001 }));
  await rejectsWith("ERR_CERT_EXPIRED", () => verify([leaf], { now: NOW + 1001 }));
});

Deno.test("verifyChain() refuses a valid leaf under an expired intermediate or root", async () => {
  const intermediate = await forge({ subject: "CN=I", ca: true, issuer: ROOT, notAfter: NOW - 1 });
  const leaf = await forge({ issuer: intermediate });
  await rejectsWith("ERR_CERT_EXPIRED", () => verify([leaf, intermediate]));
  const root = await forge({ subject: "CN=Old", ca: true, notAfter: NOW - 1 });
  const other = await forge({ issuer: root });
  await rejectsWith("ERR_CERT_EXPIRED", () => verify([other], { roots: [root.pem] }));
});

Deno.test("verifyChain() refuses a leaf of the wrong key usage", async () => {
  const flaws: ForgeOptions[] = [
    { keyUsage: KeyUsageFlags.keyEncipherment },
    { keyUsage: null },
    { keyUsage: KeyUsageFlags.digitalSignature | KeyUsageFlags.keyCertSign },
    { keyUsage: KeyUsageFlags.digitalSignature | KeyUsageFlags.cRLSign },
    { ca: true, keyUsage: KeyUsageFlags.digitalSignature, extendedKeyUsage: [ExtendedKeyUsage.clientAuth] },
  ];
  for (const flaw of flaws) {
    const leaf = await forge({ issuer: ROOT, names: spiffe("/agent/x"), ...flaw });
    await rejectsWith("ERR_CERT_WRONG_USE", () => verify([leaf]));
  }
});

Deno.test("verifyChain() refuses a leaf of the wrong extended key usage for what it is used as", async () => {
  const server = await forge({ issuer: ROOT, extendedKeyUsage: [ExtendedKeyUsage.serverAuth] });
  const client = await forge({ issuer: ROOT, extendedKeyUsage: [ExtendedKeyUsage.clientAuth] });
  assert.ok(await verify([client]));
  assert.ok(await verify([server], { purpose: "server" }));
  await rejectsWith("ERR_CERT_WRONG_USE", () => verify([server]));
  await rejectsWith("ERR_CERT_WRONG_USE", () => verify([client], { purpose: "server" }));
  const none = await forge({ issuer: ROOT, extendedKeyUsage: null });
  await rejectsWith("ERR_CERT_WRONG_USE", () => verify([none]));
});

Deno.test("verifyChain() refuses the CA itself as an identity", async () => {
  await rejectsWith("ERR_CERT_WRONG_USE", () => verify([ROOT]));
});

Deno.test("verifyChain() refuses no SPIFFE ID, two, and one that is not ours", async () => {
  const names: [string, JsonGeneralNames | null][] = [
    ["ERR_CERT_NO_SPIFFE_ID", null],
    ["ERR_CERT_NO_SPIFFE_ID", [{ type: "dns", value: "spiffe://test.internal/agent/a" }]],
    ["ERR_CERT_NO_SPIFFE_ID", [{ type: "url", value: "https://test.internal/agent/a" }]],
    ["ERR_CERT_NO_SPIFFE_ID", spiffe("/robot/a")],
    ["ERR_CERT_NO_SPIFFE_ID", spiffe("")],
    ["ERR_CERT_SEVERAL_SPIFFE_IDS", [...spiffe("/agent/a"), ...spiffe("/agent/b")]],
    ["ERR_CERT_SEVERAL_SPIFFE_IDS", [...spiffe("/agent/a"), { type: "url", value: "https://a.example/" }]],
  ];
  for (const [code, value] of names) {
    const leaf = await forge({ issuer: ROOT, names: value });
    await rejectsWith(code, () => verify([leaf]));
  }
});

Deno.test("verifyChain() refuses a SPIFFE ID hidden in a second SAN extension [RFC5280-4.2]", async () => {
  const good = await forge({ issuer: ROOT });
  assert.ok(await verify([good]));
  const { SubjectAlternativeNameExtension } = await import("@peculiar/x509");
  const second = new SubjectAlternativeNameExtension(spiffe("/agent/admin"));
  const leaf = await forge({ issuer: ROOT, extra: [second] });
  await rejectsWith("ERR_CERT_MALFORMED", () => verify([leaf]));
});

Deno.test("verifyChain() refuses the SPIFFE ID of another trust domain", async () => {
  const leaf = await forge({
    issuer: ROOT,
    names: [{ type: "url", value: "spiffe://other.internal/agent/a" }],
  });
  await rejectsWith("ERR_CERT_TRUST_DOMAIN", () => verify([leaf]));
  await rejectsWith("ERR_CERT_TRUST_DOMAIN", () => verify([leaf], { trustDomain: DOMAIN }));
  await rejectsWith("ERR_CERT_TRUST_DOMAIN", () => verify([leaf], { trustDomain: "other.internal" }));
});

Deno.test("verifyChain() refuses a good ID where the caller expects another trust domain", async () => {
  const leaf = await forge({ issuer: ROOT });
  await rejectsWith("ERR_CERT_TRUST_DOMAIN", () => verify([leaf], { trustDomain: "other.internal" }));
});

Deno.test("verifyChain() lets a root without a trust domain vouch only for the one the caller names", async () => {
  const root = await forge({ subject: "CN=Plain", ca: true, names: null });
  const leaf = await forge({ issuer: root });
  assert.ok(await verify([leaf], { roots: [root.pem], trustDomain: DOMAIN }));
  await rejectsWith("ERR_CERT_TRUST_DOMAIN", () => verify([leaf], { roots: [root.pem] }));
});

Deno.test("verifyChain() refuses an intermediate of another trust domain", async () => {
  const names: JsonGeneralNames = [{ type: "url", value: "spiffe://other.internal" }];
  const intermediate = await forge({ subject: "CN=I", ca: true, issuer: ROOT, names });
  const leaf = await forge({ issuer: intermediate });
  await rejectsWith("ERR_CERT_TRUST_DOMAIN", () => verify([leaf, intermediate]));
});

Deno.test("verifyChain() refuses a reordered chain, and one with a gap", async () => {
  const [one, two, leaf] = await makePath(2);
  await rejectsWith("ERR_CERT_CHAIN_ORDER", () => verify([two, leaf, one]));
  await rejectsWith("ERR_CERT_CHAIN_ORDER", () => verify([leaf, one, two]));
  await rejectsWith("ERR_CERT_CHAIN_ORDER", () => verify([leaf, one]));
  await rejectsWith("ERR_CERT_CHAIN_ORDER", () => verify([leaf, two, leaf]));
  await rejectsWith("ERR_CERT_UNTRUSTED", () => verify([leaf, two]));
  await rejectsWith("ERR_CERT_WRONG_USE", () => verify([two, one]));
});

Deno.test("verifyChain() refuses a chain that is empty or too long", async () => {
  await rejectsWith("ERR_CERT_MALFORMED", () => verify([]));
  const path = await makePath(4);
  await rejectsWith("ERR_CERT_CHAIN_TOO_LONG", () => verify([...path].reverse()));
  await rejectsWith("ERR_CERT_CHAIN_TOO_LONG", () => verifyPem([...path].reverse()));
  const leaf = await forge({ issuer: ROOT });
  await rejectsWith("ERR_CERT_CHAIN_TOO_LONG", () => verify([leaf, ...Array<Forged>(60).fill(ROOT)]));
});

Deno.test("verifyChain() refuses keys that are not P-256 and signatures that are not SHA-256", async () => {
  const p384 = await forge({ issuer: ROOT, keys: await generateKeys("P-384") });
  await rejectsWith("ERR_CERT_KEY_TYPE", () => verify([p384]));
  const sha1 = await forge({ issuer: ROOT, algorithm: { name: "ECDSA", hash: "SHA-1" } });
  await rejectsWith("ERR_CERT_KEY_TYPE", () => verify([sha1]));
  const rsa = await crypto.subtle.generateKey(
    {
      name: "RSASSA-PKCS1-v1_5",
      hash: "SHA-256",
      modulusLength: 2048,
      publicExponent: new Uint8Array([1, 0, 1]),
    },
    true,
    ["sign", "verify"],
  );
  await rejectsWith(
    "ERR_CERT_KEY_TYPE",
    () => forge({ issuer: ROOT, keys: rsa }).then((leaf) => verify([leaf])),
  );
});

Deno.test("verifyChain() refuses a critical extension it does not know [RFC5280-4.2]", async () => {
  const nameConstraints = new Uint8Array([0x30, 0x00]);
  const critical = await forge({ issuer: ROOT, extra: [new Extension("2.5.29.30", true, nameConstraints)] });
  await rejectsWith("ERR_CERT_CRITICAL_EXTENSION", () => verify([critical]));
  const harmless = await forge({ issuer: ROOT, extra: [new Extension("1.2.3.4", false, nameConstraints)] });
  assert.ok(await verify([harmless]));
});

Deno.test("verifyChain() asks whether the leaf is revoked, by ID and serial number", async () => {
  const leaf = await forge({ issuer: ROOT });
  const { serial } = await verify([leaf]);
  const asked: string[] = [];
  const isRevoked = (certificate: { id: { uri: string }; serial: string }) => {
    asked.push(`${certificate.id.uri} ${certificate.serial}`);
    return true;
  };
  await rejectsWith("ERR_CERT_REVOKED", () => verify([leaf], { isRevoked }));
  assert.deepEqual(asked, [`spiffe://${DOMAIN}/agent/forged ${serial}`]);
  assert.ok(await verify([leaf], { isRevoked: () => false }));
});

Deno.test("verifyChain() refuses a leaf with any one byte changed", async () => {
  const leaf = await forge({ issuer: ROOT });
  // Every seventh byte covers all fields of the certificate and keeps the test short.
  for (let offset = 0; offset < leaf.der.length; offset += 7) {
    const der = new Uint8Array(leaf.der);
    der[offset]! ^= 0x01;
    await assert.rejects(
      () => verifyChain({ chain: [der], roots: [ROOT.pem], now: NOW }),
      /Cannot/,
      String(offset),
    );
  }
});

Deno.test("verifyChain() refuses a certificate cut off at every byte, and one with a byte too many", async () => {
  const leaf = await forge({ issuer: ROOT });
  for (let length = 0; length < leaf.der.length; length++) {
    await rejectsWith("ERR_CERT_MALFORMED", () => verifyDer(leaf.der.subarray(0, length)));
  }
  await rejectsWith("ERR_CERT_MALFORMED", () => verifyDer(new Uint8Array([...leaf.der, 0])));
});

Deno.test("verifyChain() accepts what the CA issues and refuses it under another network's CA", async () => {
  const { ca } = await createTestNetwork();
  const other = await createCa({ trustDomain: DOMAIN, now: NOW, days: 30 });
  const { certificatePem } = await issueCertificate(ca, { kind: "agent", name: "a", now: NOW, days: 1 });
  const options = { chain: certificatePem, now: NOW };
  assert.equal((await verifyChain({ ...options, roots: [ca.certificatePem] })).id.name, "a");
  await rejectsWith("ERR_CERT_SIGNATURE", () => verifyChain({ ...options, roots: [other.certificatePem] }));
});

function verify(chain: readonly (Forged | undefined)[], options: Partial<VerifyChainOptions> = {}) {
  return verifyChain({ chain: chain.map((one) => one!.der), roots: [ROOT.pem], now: NOW, ...options });
}

function verifyPem(chain: readonly (Forged | undefined)[]) {
  return verifyChain({ chain: chain.map((one) => one!.pem).join(""), roots: [ROOT.pem], now: NOW });
}

function verifyDer(der: Uint8Array) {
  return verifyChain({ chain: [der], roots: [ROOT.pem], now: NOW });
}

/** Intermediates from the root downwards, then a leaf. */
async function makePath(intermediates: number): Promise<Forged[]> {
  const path: Forged[] = [];
  for (let index = 1; index <= intermediates; index++) {
    path.push(await forge({ subject: `CN=I${index}`, ca: true, issuer: path.at(-1) ?? ROOT }));
  }
  return [...path, await forge({ subject: "CN=leaf", issuer: path.at(-1) ?? ROOT })];
}

function spiffe(path: string): { type: "url"; value: string }[] {
  return [{ type: "url", value: `spiffe://${DOMAIN}${path}` }];
}
