/**
 * What one certificate of a chain must be by itself: a CA that may issue, a leaf that may stand for somebody, within
 * its time.
 */

import { type Certificate, hasKeyUsage, KEY_USAGE } from "./certificate.ts";
import { type CertificateErrorCode, IdentityError } from "./errors.ts";
import { parseTrustDomainUri, type SpiffeId } from "./spiffe_id.ts";

const CLIENT_AUTH = "1.3.6.1.5.5.7.3.2";
const SERVER_AUTH = "1.3.6.1.5.5.7.3.1";

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

/** Throws unless the certificate may issue others. */
export function assertCa(issuer: Certificate): void {
  // RFC 5280 §6.1.4 (k), (n): an issuer's basicConstraints must say CA, its key usage keyCertSign.
  if (!issuer.isCa || !hasKeyUsage(issuer, KEY_USAGE.certSign)) {
    throw refuse("ERR_CERT_ISSUER_NOT_CA", "a certificate stands as an issuer that is no CA");
  }
}

/** Throws when a CA allows fewer than `depth` intermediates between itself and the leaf. */
export function assertPathLength(issuer: Certificate, depth: number): void {
  // RFC 5280 §6.1.4 (l), (m): the path below a CA must not be longer than it allows.
  if (issuer.pathLength !== undefined && depth > issuer.pathLength) {
    throw refuse(
      "ERR_CERT_PATH_LENGTH",
      `a CA allows ${issuer.pathLength} intermediates, ${depth} follow it`,
    );
  }
}

/** Throws unless a leaf may be used for `purpose`. */
export function assertLeafUse(
  leaf: Certificate,
  options: { readonly purpose: "client" | "server"; readonly isForeign: boolean },
): void {
  const { purpose, isForeign } = options;
  const wanted = purpose === "client" ? CLIENT_AUTH : SERVER_AUTH;
  if (leaf.isCa || hasKeyUsage(leaf, KEY_USAGE.certSign) || hasKeyUsage(leaf, KEY_USAGE.crlSign)) {
    throw refuse("ERR_CERT_WRONG_USE", "a CA certificate cannot stand for an identity");
  }
  if (!hasKeyUsage(leaf, KEY_USAGE.digitalSignature)) {
    throw refuse("ERR_CERT_WRONG_USE", "the certificate's key usage does not include digitalSignature");
  }
  // The SPIFFE standard lets an SVID do without this extension, which then allows both uses.
  if (isForeign && leaf.extendedKeyUsage === undefined) return;
  if (!leaf.extendedKeyUsage?.includes(wanted)) {
    throw refuse(
      "ERR_CERT_WRONG_USE",
      `the certificate's extended key usage does not include ${purpose}Auth`,
    );
  }
}

/** Reads the one SPIFFE ID of a leaf by `parse`, which is as strict as its trust domain demands. */
export function readSpiffeId(leaf: Certificate, parse: (uri: string) => SpiffeId): SpiffeId {
  const [uri, ...others] = leaf.uriNames;
  if (uri === undefined) throw refuse("ERR_CERT_NO_SPIFFE_ID", "the certificate carries no SPIFFE ID");
  if (others.length > 0) {
    throw refuse("ERR_CERT_SEVERAL_SPIFFE_IDS", "the certificate carries more than one URI name");
  }
  try {
    return parse(uri);
  } catch (cause) {
    throw refuse("ERR_CERT_NO_SPIFFE_ID", "the certificate's URI name is not a SPIFFE ID of a network", {
      cause,
    });
  }
}

/** The trust domain a CA certificate names; undefined when it names none. */
export function statedTrustDomain(issuer: Certificate): string | undefined {
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

/** The error for a certificate that is refused. */
export function refuse(
  code: CertificateErrorCode,
  reason: string,
  options: { readonly cause?: unknown; readonly hint?: string } = {},
): IdentityError {
  return new IdentityError(code, `Cannot accept the certificate: ${reason}`, options);
}

function isoTime(milliseconds: number): string {
  return new Date(milliseconds).toISOString();
}
