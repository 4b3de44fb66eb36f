/**
 * What `ginnel ca show` says about a CA directory, an identity file or a certificate: public facts only.
 */

import { createHash } from "node:crypto";
import type { JWK } from "jose";
import { errorMessage } from "../base/errors.ts";
import { readPublicCa } from "../identity/ca_directory.ts";
import { type Certificate, parseCertificatesPem } from "../identity/certificate.ts";
import { assertValidity } from "../identity/certificate_checks.ts";
import { parseIdentity, readIdentityParts } from "../identity/identity_file.ts";
import { readPublicFile, readSecretFile } from "../identity/secret_file.ts";

/** Public facts about one file or directory. */
export interface Description {
  readonly what: "ca" | "identity" | "certificate";
  readonly path: string;
  readonly subject: string;
  /** Upper-case hexadecimal. */
  readonly serial: string;
  /** SHA-256 of the certificate, lower-case hexadecimal. */
  readonly fingerprint: string;
  /** ISO 8601. */
  readonly notBefore: string;
  /** ISO 8601. */
  readonly notAfter: string;
  /** Key ids of the authorities whose views it trusts. */
  readonly authorities: readonly string[];
  readonly usable: boolean;
  /** "valid", or what is wrong. */
  readonly status: string;
}

/** Describes the CA of a directory from its public files. */
export async function describeCa(directory: string, options: { readonly now: number }): Promise<Description> {
  const { certificatePem, authority } = await readPublicCa(directory);
  const certificate = parseCertificatesPem(certificatePem)[0]!;
  return {
    what: "ca",
    path: directory,
    ...facts(certificate),
    authorities: keyIds([authority]),
    ...validityStatus(certificate, options.now),
  };
}

/** Describes an identity file, which must be private, or a PEM certificate. */
export async function describeFile(path: string, options: { readonly now: number }): Promise<Description> {
  const text = await readPublicFile(path);
  return text.trimStart().startsWith("-----BEGIN CERTIFICATE-----")
    ? describeCertificate(path, { pem: text, now: options.now })
    : await describeIdentity(path, options);
}

/** Lays a description out for a person. */
export function formatDescription(description: Description): string {
  const rows: readonly (readonly [string, string])[] = [
    [description.what, description.path],
    ["subject", description.subject],
    ["status", description.status],
    ["valid", `${description.notBefore} to ${description.notAfter}`],
    ["serial", description.serial],
    ["sha256", description.fingerprint],
    ...description.authorities.map((kid) => ["authority", kid] as const),
  ];
  return rows.map(([label, value]) => `${label.padEnd(12)}${value}\n`).join("");
}

function describeCertificate(
  path: string,
  options: { readonly pem: string; readonly now: number },
): Description {
  const certificate = parseCertificatesPem(options.pem)[0]!;
  return {
    what: "certificate",
    path,
    ...facts(certificate),
    authorities: [],
    ...validityStatus(certificate, options.now),
  };
}

async function describeIdentity(path: string, options: { readonly now: number }): Promise<Description> {
  const text = await readSecretFile(path);
  const { certificate, authorities } = readIdentityParts(text, path);
  return {
    what: "identity",
    path,
    ...facts(parseCertificatesPem(certificate)[0]!),
    authorities: keyIds(authorities),
    ...await statusOf(() => parseIdentity(text, { source: path, now: options.now })),
  };
}

function facts(
  certificate: Certificate,
): Pick<Description, "subject" | "serial" | "fingerprint" | "notBefore" | "notAfter"> {
  return {
    subject: certificate.uriNames[0] ?? certificate.subject.replaceAll("\n", ", "),
    serial: certificate.serial,
    fingerprint: createHash("sha256").update(certificate.der).digest("hex"),
    notBefore: new Date(certificate.notBefore).toISOString(),
    notAfter: new Date(certificate.notAfter).toISOString(),
  };
}

function validityStatus(certificate: Certificate, now: number): Pick<Description, "usable" | "status"> {
  try {
    assertValidity(certificate, { now, what: "it" });
    return { usable: true, status: "valid" };
  } catch (error) {
    return { usable: false, status: errorMessage(error) };
  }
}

async function statusOf(check: () => Promise<unknown>): Promise<Pick<Description, "usable" | "status">> {
  try {
    await check();
    return { usable: true, status: "valid" };
  } catch (error) {
    return { usable: false, status: errorMessage(error) };
  }
}

function keyIds(keys: readonly JWK[]): string[] {
  return keys.map((key) => key.kid ?? "(no key id)");
}
