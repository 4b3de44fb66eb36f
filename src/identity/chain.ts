/**
 * Verification of SPIFFE certificate chains: every link's signature, validity, use and the one SPIFFE ID.
 * The checks that cost nothing come before the signatures, so that nonsense is refused cheaply.
 */

import { equalBytes } from "../base/bytes.ts";
import { type Certificate, parseCertificate, parseCertificatesPem } from "./certificate.ts";
import {
  assertCa,
  assertLeafUse,
  assertPathLength,
  assertValidity,
  readSpiffeId,
  refuse,
  statedTrustDomain,
} from "./certificate_checks.ts";
import type { IdentityError } from "./errors.ts";
import { parseSpiffeId, parseWorkloadId, type SpiffeId, trustDomainOf } from "./spiffe_id.ts";

/** A trust domain other than the network's own, whose identities are admitted under its own CAs. */
interface ForeignTrust {
  readonly domain: string;
  /** CA certificates, PEM. */
  readonly roots: readonly string[];
}

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
  /** The leaf and its intermediates, DER. */
  readonly chainDer: readonly Uint8Array[];
}

/** How to verify a chain. */
export interface VerifyChainOptions {
  /** The leaf, then each certificate's issuer: PEM blocks in one text, or DER certificates. */
  readonly chain: string | readonly Uint8Array[];
  /** Trusted CA certificates, PEM. */
  readonly roots: readonly string[];
  readonly now: number;
  /** The trust domain the leaf must belong to, unless it is of a foreign one; default: the one the root was made for. */
  readonly trustDomain?: string;
  /** A leaf that names one of these is a workload, verified under that domain's roots and no others. */
  readonly foreign?: readonly ForeignTrust[];
  /** What the peer uses the certificate for; default "client". */
  readonly purpose?: "client" | "server";
  readonly isRevoked?: (certificate: CertificateReference) => boolean;
}

/** Most certificates in a chain, the root not counted: a leaf and three intermediates. */
export const MAX_CHAIN_LENGTH = 4;

/** Roots kept parsed, so that a handshake does not parse them again; they come from files, never from peers. */
const MAX_PARSED_ROOTS = 64;

const parsedRoots = new Map<string, readonly Certificate[]>();

/** Verifies a chain and returns whose it is; throws an `IdentityError` with an `ERR_CERT_*` code. */
export async function verifyChain(options: VerifyChainOptions): Promise<VerifiedChain> {
  const { now, purpose = "client", isRevoked } = options;
  const certificates = readChain(options.chain);
  const leaf = certificates[0]!;
  const { roots, required, isForeign } = chooseTrust(leaf, options);
  const chain = withoutRoot(certificates, roots);
  const issuers = chain.slice(1);
  assertOrder(chain);
  const anchors = findAnchors(chain.at(-1)!, roots);
  issuers.forEach((issuer, index) => {
    assertCa(issuer);
    assertPathLength(issuer, index);
  });
  assertTime(chain, now);
  assertLeafUse(leaf, { purpose, isForeign });
  const id = readSpiffeId(leaf, isForeign ? parseWorkloadId : parseSpiffeId);
  assertTrustDomain(id, { issuers, required });
  for (const [index, issuer] of issuers.entries()) await assertSignature(chain[index]!, issuer);
  const anchor = await chooseAnchor(chain, { anchors, id, now, required });
  const path = [...chain, anchor];
  const verified: VerifiedChain = {
    id,
    publicKey: await leaf.publicKey(),
    notBefore: Math.max(...path.map((certificate) => certificate.notBefore)),
    notAfter: Math.min(...path.map((certificate) => certificate.notAfter)),
    serial: leaf.serial,
    chainDer: chain.map(({ der }) => der),
  };
  if (isRevoked?.({ id, serial: leaf.serial })) throw revoked(id);
  return verified;
}

/** The error for a revoked certificate. */
export function revoked(id: SpiffeId): IdentityError {
  return refuse("ERR_CERT_REVOKED", `the certificate of ${id.uri} was revoked`);
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

function readChain(source: string | readonly Uint8Array[]): readonly Certificate[] {
  const chain = typeof source === "string" ? parseCertificatesPem(source) : parseDerChain(source);
  if (chain.length > MAX_CHAIN_LENGTH + 1) throw tooLong(chain.length);
  return chain;
}

function withoutRoot(chain: readonly Certificate[], roots: readonly Certificate[]): readonly Certificate[] {
  const last = chain.at(-1)!;
  const path = chain.length > 1 && roots.some((root) => equalBytes(root.der, last.der))
    ? chain.slice(0, -1)
    : chain;
  if (path.length > MAX_CHAIN_LENGTH) throw tooLong(path.length);
  return path;
}

/** The roots that may vouch for a leaf: those of the trust domain it names, which they then have to confirm. */
function chooseTrust(leaf: Certificate, options: VerifyChainOptions): {
  readonly roots: readonly Certificate[];
  readonly required: string | undefined;
  readonly isForeign: boolean;
} {
  const own = options.roots.flatMap(parseRoot);
  const domain = trustDomainOf(leaf.uriNames[0] ?? "");
  const foreign = options.foreign?.find((trust) => trust.domain === domain);
  // Whatever is configured, nobody else vouches for the network's own trust domain.
  if (
    foreign === undefined || domain === options.trustDomain || own.some((root) => speaksFor(root, domain))
  ) {
    return { roots: own, required: options.trustDomain, isForeign: false };
  }
  return { roots: foreign.roots.flatMap(parseRoot), required: foreign.domain, isForeign: true };
}

function speaksFor(root: Certificate, domain: string | undefined): boolean {
  return root.uriNames.some((uri) => trustDomainOf(uri) === domain);
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

function assertTime(chain: readonly Certificate[], now: number): void {
  for (const certificate of chain) assertValidity(certificate, { now, what: "a certificate of the chain" });
}

function assertTrustDomain(
  id: SpiffeId,
  options: { readonly issuers: readonly Certificate[]; readonly required: string | undefined },
): void {
  const { issuers, required } = options;
  const stated = issuers.map(statedTrustDomain).concat(required);
  if (stated.some((domain) => domain !== undefined && domain !== id.trustDomain)) throw foreign(id);
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
