/**
 * Every way an identity, a certificate, a proof, a signed document or an enrolment can be refused. Each cause has its own code, so
 * that logs, audit lines and tests can tell them apart; messages never contain key material or tokens.
 */

import { GinnelError, type GinnelErrorOptions } from "../base/errors.ts";

/** A certificate or its chain was refused. */
export type CertificateErrorCode =
  | "ERR_CERT_MALFORMED"
  | "ERR_CERT_CHAIN_TOO_LONG"
  | "ERR_CERT_CHAIN_ORDER"
  | "ERR_CERT_UNTRUSTED"
  | "ERR_CERT_SIGNATURE"
  | "ERR_CERT_ISSUER_NOT_CA"
  | "ERR_CERT_PATH_LENGTH"
  | "ERR_CERT_EXPIRED"
  | "ERR_CERT_NOT_YET_VALID"
  | "ERR_CERT_WRONG_USE"
  | "ERR_CERT_KEY_TYPE"
  | "ERR_CERT_CRITICAL_EXTENSION"
  | "ERR_CERT_NO_SPIFFE_ID"
  | "ERR_CERT_SEVERAL_SPIFFE_IDS"
  | "ERR_CERT_TRUST_DOMAIN"
  | "ERR_CERT_REVOKED";

/** A proof (the signed assertion sent to a relay) was refused. */
export type ProofErrorCode =
  | "ERR_PROOF_MALFORMED"
  | "ERR_PROOF_TOO_LARGE"
  | "ERR_PROOF_ALGORITHM"
  | "ERR_PROOF_SIGNATURE"
  | "ERR_PROOF_AUDIENCE"
  | "ERR_PROOF_SESSION"
  | "ERR_PROOF_EXPIRED"
  | "ERR_PROOF_NOT_YET_VALID"
  | "ERR_PROOF_LIFETIME"
  | "ERR_PROOF_BEFORE_START"
  | "ERR_PROOF_REPLAYED"
  | "ERR_REPLAY_CACHE_FULL"
  | "ERR_SUBJECT_MISMATCH"
  | "ERR_IDENTITY_NOT_ADMITTED";

/** A signed view was refused. */
export type ViewErrorCode =
  | "ERR_VIEW_MALFORMED"
  | "ERR_VIEW_TOO_LARGE"
  | "ERR_VIEW_ALGORITHM"
  | "ERR_VIEW_AUTHORITY"
  | "ERR_VIEW_SIGNATURE"
  | "ERR_VIEW_SUBJECT"
  | "ERR_VIEW_EXPIRED"
  | "ERR_VIEW_NOT_YET_VALID"
  | "ERR_VIEW_OUTDATED";

/** A signed network document was refused. */
export type NetworkDocumentErrorCode =
  | "ERR_NETWORK_DOCUMENT_MALFORMED"
  | "ERR_NETWORK_DOCUMENT_TOO_LARGE"
  | "ERR_NETWORK_DOCUMENT_ALGORITHM"
  | "ERR_NETWORK_DOCUMENT_AUTHORITY"
  | "ERR_NETWORK_DOCUMENT_SIGNATURE"
  | "ERR_NETWORK_DOCUMENT_TRUST_DOMAIN"
  | "ERR_NETWORK_DOCUMENT_OUTDATED";

/** A one-time enrolment token was refused. */
export type EnrolmentTokenErrorCode =
  | "ERR_ENROLMENT_TOKEN_MALFORMED"
  | "ERR_ENROLMENT_TOKEN_TOO_LARGE"
  | "ERR_ENROLMENT_TOKEN_ALGORITHM"
  | "ERR_ENROLMENT_TOKEN_AUTHORITY"
  | "ERR_ENROLMENT_TOKEN_SIGNATURE"
  | "ERR_ENROLMENT_TOKEN_AUDIENCE"
  | "ERR_ENROLMENT_TOKEN_ISSUER"
  | "ERR_ENROLMENT_TOKEN_TRUST_DOMAIN"
  | "ERR_ENROLMENT_TOKEN_EXPIRED"
  | "ERR_ENROLMENT_TOKEN_NOT_YET_VALID";

/** A certificate signing request was refused. */
export type CsrErrorCode =
  | "ERR_CSR_MALFORMED"
  | "ERR_CSR_TOO_LARGE"
  | "ERR_CSR_KEY_TYPE"
  | "ERR_CSR_SIGNATURE"
  | "ERR_CSR_NAME";

/** A file or a request of the operator cannot be used. */
export type IdentityFileErrorCode =
  | "ERR_SPIFFE_ID_INVALID"
  | "ERR_IDENTITY_FILE_MISSING"
  | "ERR_IDENTITY_FILE_UNREADABLE"
  | "ERR_IDENTITY_FILE_CORRUPT"
  | "ERR_IDENTITY_FILE_EXISTS"
  | "ERR_IDENTITY_FILE_UNWRITABLE"
  | "ERR_IDENTITY_KEY_MISMATCH"
  | "ERR_KEY_FILE_READABLE"
  | "ERR_CA_FILE"
  | "ERR_CA_LIFETIME"
  | "ERR_CA_ROLLOVER";

/** Every code an {@linkcode IdentityError} can carry. */
export type IdentityErrorCode =
  | CertificateErrorCode
  | ProofErrorCode
  | ViewErrorCode
  | NetworkDocumentErrorCode
  | EnrolmentTokenErrorCode
  | CsrErrorCode
  | IdentityFileErrorCode;

/** An identity, certificate, proof, view or identity file was refused; `code` says exactly why. */
export class IdentityError extends GinnelError {
  declare readonly code: IdentityErrorCode;

  constructor(code: IdentityErrorCode, message: string, options: GinnelErrorOptions = {}) {
    super(code, message, options);
  }
}
