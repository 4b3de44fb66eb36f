/**
 * Verification of SPIFFE certificate chains: every link's signature, validity, use and the one SPIFFE ID.
 * The checks that cost nothing come before the signatures, so that nonsense is refused cheaply.
 */

import { equalBytes } from "../base/bytes.ts";
import {
  type Certificate,
  hasKeyUsage,
  KEY_USAGE,
  parseCertificate,
  parseCertificatesPem,
} from "./certificate.ts";
import { type CertificateErrorCode, IdentityError } from "./errors.ts";
import { parseSpiffeId, parseTrustDomainUri, type SpiffeId } from "./spiffe_id.ts";

/** What a revocation check is asked about. */
export interface CertificateReference {
  readonly id: SpiffeId;
  /** Serial number, upper-case hexadecimal. */
  readonly serial: string;
}

/** A chain that was verified. */
export interface VerifiedChain {
  readonly id: SpiffeId;
  readonly publicKey: CryptoKey;
  /** Start of the chain's common validity, milliseconds since the epoch. */
  readonly notBefore: number;
  /** End of the chain's common validity, milliseconds since the epoch. */
  readonly notAfter: number;
  /** Serial number of the leaf, upper-case hexadecimal. */
  readonly serial: string;
}

/** How to verify a chain. */
export interface VerifyChainOptions {
  /** The leaf, then each certificate's issuer: PEM blocks in one text, or DER certificates. */
  readonly chain: string | readonly Uint8Array[];
  /** Trusted CA certificates, PEM. */
  readonly roots: readonly string[];
  readonly now: number;
  /** The trust domain the leaf must belong to; default: the one the root was made for. */
  readonly trustDomain?: string;
  /** What the peer uses the certificate for; default "client". */
  readonly purpose?: "client" | "server";
  readonly isRevoked?: (certificate: CertificateReference) => boolean;
}

/** Most certificates in a chain, the root not counted: a leaf and three intermediates. */
export const MAX_CHAIN_LENGTH = 4;

/** Roots kept parsed, so that a handshake does not parse them again; they come from files, never from peers. */
const MAX_PARSED_ROOTS = 64;

const CLIENT_AUTH = "1.3.6.1.5.5.7.3.2";
const SERVER_AUTH = "1.3.6.1.5.5.7.3.1";

const parsedRoots = new Map<string, readonly Certificate[]>();

/** Verifies a chain and returns whose it is; throws an `IdentityError` with an `ERR_CERT_*` code. */
export async function verifyChain(options: VerifyChainOptions): Promise<VerifiedChain> {
  const { now, purpose = "client", isRevoked } = options;
  const roots = options.roots.flatMap(parseRoot);
  const chain = readChain(options.chain, roots);
  const leaf = chain[0]!;
  const issuers = chain.slice(1);
  assertOrder(chain);
  const anchors = findAnchors(chain.at(-1)!, roots);
  issuers.forEach((issuer, index) => {
    assertCa(issuer);
    assertPathLength(issuer, index);
  });
  assertTime(chain, now);
  assertLeafUse(leaf, purpose);
  const id = readSpiffeId(leaf);
  assertTrustDomain(id, { issuers, required: options.trustDomain });
  for (const [index, issuer] of issuers.entries()) await assertSignature(chain[index]!, issuer);
  const anchor = await chooseAnchor(chain, { anchors, id, now, required: options.trustDomain });
  const path = [...chain, anchor];
  const verified: VerifiedChain = {
    id,
    publicKey: await leaf.publicKey(),
    notBefore: Math.max(...path.map((certificate) => certificate.notBefore)),
    notAfter: Math.min(...path.map((certificate) => certificate.notAfter)),
    serial: leaf.serial,
  };
  if (isRevoked?.({ id, serial: leaf.serial })) throw revoked(id);
  return verified;
}

/** The error for a revoked certificate. */
export function revoked(id: SpiffeId): IdentityError {
  return refuse("ERR_CERT_REVOKED", `the certificate of ${id.uri} was revoked`);
}

/** Throws unless `now` lies within a validity; `what` names it in the error. */
export function assertValidity(
  validity: { readonly notBefore: number; readonly notAfter: number },
  options: { readonly now: number; readonly what: string },
): void {
  const { now, what } = options;
  if (now < validity.notBefore) {
    throw refuse("ERR_CERT_NOT_YET_VALID", `${what} is not valid before ${isoTime(validity.notBefore)}`, {
      hint: "Check the clocks of both machines",
    });
  }
  if (now > validity.notAfter) {
    throw refuse("ERR_CERT_EXPIRED", `${what} expired on ${isoTime(validity.notAfter)}`, {
      hint: "Issue a new certificate",
    });
  }
}

function parseRoot(pem: string): readonly Certificate[] {
  const known = parsedRoots.get(pem);
  if (known !== undefined) return known;
  const certificates = parseCertificatesPem(pem);
  for (const certificate of certificates) assertCa(certificate);
  if (parsedRoots.size >= MAX_PARSED_ROOTS) parsedRoots.clear();
  parsedRoots.set(pem, certificates);
  return certificates;
}

function readChain(source: string | readonly Uint8Array[], roots: readonly Certificate[]): Certificate[] {
  const chain = typeof source === "string" ? parseCertificatesPem(source) : parseDerChain(source);
  if (chain.length > 1 && roots.some((root) => equalBytes(root.der, chain.at(-1)!.der))) chain.pop();
  if (chain.length > MAX_CHAIN_LENGTH) throw tooLong(chain.length);
  return chain;
}

function parseDerChain(source: readonly Uint8Array[]): Certificate[] {
  if (source.length === 0) throw refuse("ERR_CERT_MALFORMED", "the chain is empty");
  if (source.length > MAX_CHAIN_LENGTH + 1) throw tooLong(source.length);
  return source.map(parseCertificate);
}

function assertOrder(chain: readonly Certificate[]): void {
  for (let index = 0; index + 1 < chain.length; index++) {
    if (chain[index]!.issuer !== chain[index + 1]!.subject) {
      throw refuse(
        "ERR_CERT_CHAIN_ORDER",
        `certificate ${index + 1} of the chain is not followed by its issuer`,
      );
    }
  }
}

function findAnchors(last: Certificate, roots: readonly Certificate[]): readonly Certificate[] {
  const anchors = roots.filter((root) => root.subject === last.issuer);
  if (anchors.length === 0) throw refuse("ERR_CERT_UNTRUSTED", "no trusted CA issued the certificate chain");
  return anchors;
}

function assertCa(issuer: Certificate): void {
  // RFC 5280 §6.1.4 (k), (n): an issuer's basicConstraints must say CA, its key usage keyCertSign.
  if (!issuer.isCa || !hasKeyUsage(issuer, KEY_USAGE.certSign)) {
    throw refuse("ERR_CERT_ISSUER_NOT_CA", "a certificate stands as an issuer that is no CA");
  }
}

/** `depth` = how many intermediates stand between the issuer and the leaf. */
function assertPathLength(issuer: Certificate, depth: number): void {
  // RFC 5280 §6.1.4 (l), (m): the path below a CA must not be longer than it allows.
  if (issuer.pathLength !== undefined && depth > issuer.pathLength) {
    throw refuse(
      "ERR_CERT_PATH_LENGTH",
      `a CA allows ${issuer.pathLength} intermediates, ${depth} follow it`,
    );
  }
}

function assertTime(chain: readonly Certificate[], now: number): void {
  for (const certificate of chain) assertValidity(certificate, { now, what: "a certificate of the chain" });
}

function assertLeafUse(leaf: Certificate, purpose: "client" | "server"): void {
  const wanted = purpose === "client" ? CLIENT_AUTH : SERVER_AUTH;
  if (leaf.isCa || hasKeyUsage(leaf, KEY_USAGE.certSign) || hasKeyUsage(leaf, KEY_USAGE.crlSign)) {
    throw refuse("ERR_CERT_WRONG_USE", "a CA certificate cannot stand for an identity");
  }
  if (!hasKeyUsage(leaf, KEY_USAGE.digitalSignature)) {
    throw refuse("ERR_CERT_WRONG_USE", "the certificate's key usage does not include digitalSignature");
  }
  if (!leaf.extendedKeyUsage?.includes(wanted)) {
    throw refuse(
      "ERR_CERT_WRONG_USE",
      `the certificate's extended key usage does not include ${purpose}Auth`,
    );
  }
}

function readSpiffeId(leaf: Certificate): SpiffeId {
  const [uri, ...others] = leaf.uriNames;
  if (uri === undefined) throw refuse("ERR_CERT_NO_SPIFFE_ID", "the certificate carries no SPIFFE ID");
  if (others.length > 0) {
    throw refuse("ERR_CERT_SEVERAL_SPIFFE_IDS", "the certificate carries more than one URI name");
  }
  try {
    return parseSpiffeId(uri);
  } catch (cause) {
    throw refuse("ERR_CERT_NO_SPIFFE_ID", "the certificate's URI name is not a SPIFFE ID of a network", {
      cause,
    });
  }
}

function assertTrustDomain(
  id: SpiffeId,
  options: { readonly issuers: readonly Certificate[]; readonly required: string | undefined },
): void {
  const { issuers, required } = options;
  const stated = issuers.map(statedTrustDomain).concat(required);
  if (stated.some((domain) => domain !== undefined && domain !== id.trustDomain)) throw foreign(id);
}

/** The trust domain a CA certificate names; undefined when it names none. */
function statedTrustDomain(issuer: Certificate): string | undefined {
  const [uri, ...others] = issuer.uriNames;
  if (uri === undefined) return undefined;
  if (others.length > 0) {
    throw refuse("ERR_CERT_SEVERAL_SPIFFE_IDS", "a CA certificate carries several URI names");
  }
  try {
    return parseTrustDomainUri(uri);
  } catch (cause) {
    throw refuse("ERR_CERT_TRUST_DOMAIN", "a CA certificate's URI name is not a trust domain", { cause });
  }
}

/** Returns the root that signed the chain, after judging that root by the same rules as an intermediate. */
async function chooseAnchor(
  chain: readonly Certificate[],
  options: {
    readonly anchors: readonly Certificate[];
    readonly id: SpiffeId;
    readonly now: number;
    readonly required: string | undefined;
  },
): Promise<Certificate> {
  const { anchors, id, now, required } = options;
  const last = chain.at(-1)!;
  for (const anchor of anchors) {
    if (!await isSignedBy(last, anchor)) continue;
    assertPathLength(anchor, chain.length - 1);
    assertValidity(anchor, { now, what: "the CA" });
    // A root that names no trust domain may vouch for one only where the caller names it.
    if ((statedTrustDomain(anchor) ?? required) !== id.trustDomain) throw foreign(id);
    return anchor;
  }
  throw forged();
}

async function assertSignature(subject: Certificate, issuer: Certificate): Promise<void> {
  if (!await isSignedBy(subject, issuer)) throw forged();
}

async function isSignedBy(subject: Certificate, issuer: Certificate): Promise<boolean> {
  // checkIssued() compares names and key identifiers only, so the signature decides.
  if (!subject.platform.checkIssued(issuer.platform)) return false;
  try {
    return await subject.parsed.verify({ publicKey: await issuer.publicKey(), signatureOnly: true });
  } catch {
    // An unreadable signature value is a bad signature, whatever the parser calls it.
    return false;
  }
}

function tooLong(length: number): IdentityError {
  return refuse(
    "ERR_CERT_CHAIN_TOO_LONG",
    `the chain has ${length} certificates, more than ${MAX_CHAIN_LENGTH}`,
  );
}

function foreign(id: SpiffeId): IdentityError {
  return refuse("ERR_CERT_TRUST_DOMAIN", `the CA does not speak for the trust domain ${id.trustDomain}`);
}

function forged(): IdentityError {
  return refuse("ERR_CERT_SIGNATURE", "a certificate names an issuer whose key did not sign it");
}

function refuse(
  code: CertificateErrorCode,
  reason: string,
  options: { readonly cause?: unknown; readonly hint?: string } = {},
): IdentityError {
  return new IdentityError(code, `Cannot accept the certificate: ${reason}`, options);
}

function isoTime(milliseconds: number): string {
  return new Date(milliseconds).toISOString();
}
