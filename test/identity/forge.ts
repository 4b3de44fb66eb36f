/**
 * Makes certificates, good and bad, of any shape an attacker could choose: every field can be set.
 */

import "reflect-metadata";
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  type Extension,
  type JsonGeneralNames,
  KeyUsageFlags,
  KeyUsagesExtension,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509CertificateGenerator,
} from "@peculiar/x509";
import assert from "node:assert/strict";
import { createAuthority } from "../../src/identity/authority.ts";
import { issueIdentity } from "../../src/identity/issue_identity.ts";
import { type Identity, parseIdentity } from "../../src/identity/identity_file.ts";
import { encodePem } from "../../src/identity/pem.ts";
import { type CaBundle, createCa } from "../../src/identity/pki.ts";
import type { IdentityKind } from "../../src/identity/spiffe_id.ts";

/** The time at which all identity tests happen, milliseconds since the epoch. */
export const NOW = Date.UTC(2030, 0, 15, 12, 0, 0);

/** The trust domain of the tests. */
export const DOMAIN = "test.internal";

const DAY = 86_400_000;

/** A certificate together with its key. */
export interface Forged {
  readonly der: Uint8Array<ArrayBuffer>;
  readonly pem: string;
  readonly subject: string;
  readonly keys: CryptoKeyPair;
}

/** What to forge; everything not said is as in a good certificate. */
export interface ForgeOptions {
  readonly subject?: string;
  /** Default: self-signed. */
  readonly issuer?: { readonly subject: string; readonly keys: CryptoKeyPair };
  readonly keys?: CryptoKeyPair;
  readonly ca?: boolean | null;
  readonly pathLength?: number;
  readonly keyUsage?: number | null;
  readonly extendedKeyUsage?: readonly string[] | null;
  readonly names?: JsonGeneralNames | null;
  readonly notBefore?: number;
  readonly notAfter?: number;
  readonly authorityKeyId?: CryptoKey | null;
  readonly extra?: readonly Extension[];
  readonly algorithm?: Algorithm | EcdsaParams;
}

/** Generates an ECDSA key pair, P-256 unless told otherwise. */
export function generateKeys(namedCurve = "P-256"): Promise<CryptoKeyPair> {
  return crypto.subtle.generateKey({ name: "ECDSA", namedCurve }, true, ["sign", "verify"]);
}

/** Makes a certificate exactly as asked. */
export async function forge(options: ForgeOptions = {}): Promise<Forged> {
  const { ca = false, keyUsage, extendedKeyUsage, names, extra = [], pathLength } = options;
  const keys = options.keys ?? await generateKeys();
  const subject = options.subject ?? "CN=forged";
  const issuer = options.issuer ?? { subject, keys };
  const extensions: Extension[] = [];
  if (ca !== null) extensions.push(new BasicConstraintsExtension(ca, pathLength, true));
  if (keyUsage !== null) {
    const usual = ca === true ? KeyUsageFlags.keyCertSign : KeyUsageFlags.digitalSignature;
    extensions.push(new KeyUsagesExtension(keyUsage ?? usual, true));
  }
  if (extendedKeyUsage !== null && (ca !== true || extendedKeyUsage !== undefined)) {
    const usual = [ExtendedKeyUsage.serverAuth, ExtendedKeyUsage.clientAuth];
    extensions.push(new ExtendedKeyUsageExtension([...(extendedKeyUsage ?? usual)]));
  }
  if (names !== null) {
    const usual = ca === true ? `spiffe://${DOMAIN}` : `spiffe://${DOMAIN}/agent/forged`;
    extensions.push(new SubjectAlternativeNameExtension(names ?? [{ type: "url", value: usual }]));
  }
  extensions.push(await SubjectKeyIdentifierExtension.create(keys.publicKey));
  const authorityKey = options.authorityKeyId === undefined ? issuer.keys.publicKey : options.authorityKeyId;
  if (authorityKey !== null) extensions.push(await AuthorityKeyIdentifierExtension.create(authorityKey));
  const certificate = await X509CertificateGenerator.create({
    subject,
    issuer: issuer.subject,
    notBefore: new Date(options.notBefore ?? NOW - DAY),
    notAfter: new Date(options.notAfter ?? NOW + DAY),
    publicKey: keys.publicKey,
    signingKey: issuer.keys.privateKey,
    signingAlgorithm: options.algorithm ?? { name: "ECDSA", hash: "SHA-256" },
    extensions: [...extensions, ...extra],
  });
  const der = new Uint8Array(certificate.rawData);
  return { der, pem: encodePem("CERTIFICATE", der), subject, keys };
}

/** A whole network: a CA, its authority, and identities on demand. */
export interface TestNetwork {
  readonly ca: CaBundle;
  readonly authority: Awaited<ReturnType<typeof createAuthority>>;
  /** Makes an identity that is valid for a day, or for `seconds` from now on where those are given. */
  identity(kind: IdentityKind, name: string, options?: { readonly seconds?: number }): Promise<Identity>;
}

/** Makes a network whose identities are valid for a day from `now`. */
export async function createTestNetwork(trustDomain = DOMAIN, now = NOW): Promise<TestNetwork> {
  const ca = await createCa({ trustDomain, now, days: 30 });
  const authority = await createAuthority();
  const identity: TestNetwork["identity"] = async (kind, name, { seconds } = {}) => {
    const life = seconds === undefined ? { now, days: 1 } : { now: Date.now(), days: seconds / 86_400 };
    const { text } = await issueIdentity(ca, { kind, name, ...life, authorities: [authority.publicJwk] });
    return await parseIdentity(text, { source: "test", now: life.now });
  };
  return { ca, authority, identity };
}

/** Asserts that a promise rejects with exactly this code. */
export async function rejectsWith(code: string, action: () => Promise<unknown>): Promise<void> {
  await assert.rejects(action, (error: unknown) => {
    assert.ok(error instanceof Error);
    assert.equal((error as { code?: string }).code, code, `${error.message}\n${error.stack}`);
    return true;
  });
}
