/**
 * One X.509 certificate, parsed once into the plain facts that chain verification decides on. Two parsers
 * must accept it: the platform's (strict DER) and the ASN.1 library that exposes every extension.
 */

import "reflect-metadata";
import {
  BasicConstraintsExtension,
  ExtendedKeyUsageExtension,
  KeyUsageFlags,
  KeyUsagesExtension,
  SubjectAlternativeNameExtension,
  X509Certificate,
} from "@peculiar/x509";
import { X509Certificate as PlatformCertificate } from "node:crypto";
import { IdentityError } from "./errors.ts";
import { decodePem, isOneDerSequence } from "./pem.ts";

/** What a certificate says; nothing in it is verified yet. */
export interface Certificate {
  readonly der: Uint8Array<ArrayBuffer>;
  readonly parsed: X509Certificate;
  readonly platform: PlatformCertificate;
  /** Upper-case hexadecimal. */
  readonly serial: string;
  readonly subject: string;
  readonly issuer: string;
  /** Milliseconds since the epoch. */
  readonly notBefore: number;
  /** Milliseconds since the epoch. */
  readonly notAfter: number;
  readonly isCa: boolean;
  readonly pathLength: number | undefined;
  /** Flags, or undefined without the extension. */
  readonly keyUsage: number | undefined;
  /** Object identifiers, or undefined without the extension. */
  readonly extendedKeyUsage: readonly string[] | undefined;
  readonly uriNames: readonly string[];
  /** DNS names and IP addresses, as they are written in the certificate. */
  readonly serverNames: readonly string[];
  readonly publicKey: () => Promise<CryptoKey>;
}

/** Largest certificate accepted, in bytes; ours have about 600. */
export const MAX_CERTIFICATE_LENGTH = 4096;

/** Extensions this code evaluates; any other one marked critical must be refused. */
const UNDERSTOOD_EXTENSIONS: ReadonlySet<string> = new Set([
  "2.5.29.15", // key usage
  "2.5.29.17", // subject alternative name
  "2.5.29.19", // basic constraints
  "2.5.29.37", // extended key usage
]);

/** Parses DER bytes; throws `ERR_CERT_MALFORMED`, `ERR_CERT_KEY_TYPE` or `ERR_CERT_CRITICAL_EXTENSION`. */
export function parseCertificate(der: Uint8Array): Certificate {
  if (der.length > MAX_CERTIFICATE_LENGTH) {
    throw malformed(`it has ${der.length} bytes, more than ${MAX_CERTIFICATE_LENGTH}`);
  }
  const bytes = new Uint8Array(der);
  // Both parsers accept bytes after the certificate, which could then mean different things to different readers.
  if (!isOneDerSequence(bytes)) throw malformed("it is not exactly one DER sequence");
  try {
    // The platform's parser goes first: it is fast and refuses BER that is not DER.
    return readCertificate(bytes, new PlatformCertificate(bytes));
  } catch (cause) {
    if (cause instanceof IdentityError) throw cause;
    throw malformed("it is not an X.509 certificate", cause);
  }
}

/** Parses every certificate of a PEM text, in order. */
export function parseCertificatesPem(pem: string): Certificate[] {
  return decodePem("CERTIFICATE", pem).map(parseCertificate);
}

/** Tells whether a key usage flag is set. */
export function hasKeyUsage(certificate: Certificate, flag: number): boolean {
  return certificate.keyUsage !== undefined && (certificate.keyUsage & flag) !== 0;
}

function readCertificate(der: Uint8Array<ArrayBuffer>, platform: PlatformCertificate): Certificate {
  const parsed = new X509Certificate(der);
  assertEcdsaP256(parsed);
  assertExtensions(parsed);
  const basic = parsed.getExtension(BasicConstraintsExtension);
  const usages = parsed.getExtension(ExtendedKeyUsageExtension)?.usages;
  const names = parsed.getExtension(SubjectAlternativeNameExtension)?.names.items ?? [];
  const notBefore = parsed.notBefore.getTime();
  const notAfter = parsed.notAfter.getTime();
  if (!Number.isFinite(notBefore) || !Number.isFinite(notAfter)) {
    throw malformed("its validity is not a time");
  }
  let publicKey: Promise<CryptoKey> | undefined;
  return {
    der,
    parsed,
    platform,
    serial: parsed.serialNumber.toUpperCase(),
    subject: platform.subject,
    issuer: platform.issuer,
    notBefore,
    notAfter,
    isCa: basic?.ca ?? false,
    pathLength: basic?.pathLength,
    keyUsage: parsed.getExtension(KeyUsagesExtension)?.usages,
    extendedKeyUsage: usages === undefined ? undefined : Array.from(usages, String),
    uriNames: names.filter((name) => name.type === "url").map((name) => name.value),
    serverNames: names.filter(({ type }) => type === "dns" || type === "ip").map((name) => name.value),
    publicKey: () =>
      publicKey ??= parsed.publicKey.export({ name: "ECDSA", namedCurve: "P-256" }, ["verify"]),
  };
}

/** The flags of RFC 5280 §4.2.1.3 that decide here. */
export const KEY_USAGE: {
  readonly digitalSignature: number;
  readonly certSign: number;
  readonly crlSign: number;
} = {
  digitalSignature: KeyUsageFlags.digitalSignature,
  certSign: KeyUsageFlags.keyCertSign,
  crlSign: KeyUsageFlags.cRLSign,
};

function assertEcdsaP256(parsed: X509Certificate): void {
  const key = parsed.publicKey.algorithm as { name?: string; namedCurve?: string };
  const signature = parsed.signatureAlgorithm as { name?: string; hash?: { name?: string } };
  const isP256 = key.name === "ECDSA" && key.namedCurve === "P-256";
  if (!isP256 || signature.name !== "ECDSA" || signature.hash?.name !== "SHA-256") {
    throw new IdentityError(
      "ERR_CERT_KEY_TYPE",
      "Cannot use the certificate: its key is not ECDSA P-256 or its signature is not ECDSA with SHA-256",
    );
  }
}

function assertExtensions(parsed: X509Certificate): void {
  const seen = new Set<string>();
  for (const extension of parsed.extensions) {
    // RFC 5280 §4.2: a certificate must not include more than one instance of an extension.
    if (seen.has(extension.type)) throw malformed(`extension ${extension.type} occurs twice`);
    seen.add(extension.type);
    // RFC 5280 §4.2: an unrecognised critical extension must be refused.
    if (extension.critical && !UNDERSTOOD_EXTENSIONS.has(extension.type)) {
      throw new IdentityError(
        "ERR_CERT_CRITICAL_EXTENSION",
        `Cannot use the certificate: its critical extension ${extension.type} is unknown`,
      );
    }
  }
}

function malformed(reason: string, cause?: unknown): IdentityError {
  return new IdentityError("ERR_CERT_MALFORMED", `Cannot read the certificate: ${reason}`, { cause });
}
