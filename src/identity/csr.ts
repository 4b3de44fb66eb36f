/**
 * Certificate signing requests (PKCS #10, RFC 2986): a device shows the public half of its key and proves that it has
 * the other. What a request wants to be called decides nothing; it may only not contradict.
 */

import "reflect-metadata";
import {
  Pkcs10CertificateRequest,
  Pkcs10CertificateRequestGenerator,
  SubjectAlternativeNameExtension,
} from "@peculiar/x509";
import { type CsrErrorCode, IdentityError } from "./errors.ts";
import { KEY_ALGORITHM } from "./key_pair.ts";
import { decodePem, encodePem, isOneDerSequence } from "./pem.ts";
import type { SpiffeId } from "./spiffe_id.ts";

/** Largest request accepted, in characters of PEM; ours have about 500. */
export const MAX_CSR_LENGTH = 8192;

const ECDSA_SHA256 = { name: "ECDSA", hash: "SHA-256" };

/** Makes a request, PEM, that is signed with the key it is for; it asks for no name where none is known yet. */
export async function makeCsr(keys: CryptoKeyPair, spiffeId?: string): Promise<string> {
  const request = await Pkcs10CertificateRequestGenerator.create({
    keys,
    signingAlgorithm: ECDSA_SHA256,
    extensions: spiffeId === undefined
      ? []
      : [new SubjectAlternativeNameExtension([{ type: "url", value: spiffeId }])],
  });
  return encodePem("CERTIFICATE REQUEST", new Uint8Array(request.rawData));
}

/** Reads a request for one identity and checks its signature; throws an `IdentityError` with an `ERR_CSR_*` code. */
export async function readCsr(pem: string, id: SpiffeId): Promise<{ readonly publicKey: CryptoKey }> {
  if (pem.length > MAX_CSR_LENGTH) {
    throw refuse("ERR_CSR_TOO_LARGE", `it has ${pem.length} characters, more than ${MAX_CSR_LENGTH}`);
  }
  const request = parse(pem);
  let publicKey: CryptoKey;
  let isProven: boolean;
  try {
    publicKey = await request.publicKey.export(KEY_ALGORITHM, ["verify"]);
    // RFC 2986 §3: the signature shows that whoever asks has the private key.
    isProven = await request.verify();
  } catch (cause) {
    throw malformed("its key cannot be used", cause);
  }
  if (!isProven) throw refuse("ERR_CSR_SIGNATURE", "the key that it is for did not sign it");
  assertNames(request, id);
  return { publicKey };
}

function parse(pem: string): Pkcs10CertificateRequest {
  try {
    const [der, ...others] = decodePem("CERTIFICATE REQUEST", pem);
    if (others.length > 0) throw malformed("it is more than one");
    // Bytes after the request could mean something to another reader.
    if (!isOneDerSequence(der!)) throw malformed("it is not exactly one DER sequence");
    const request = new Pkcs10CertificateRequest(der!);
    assertP256(request);
    return request;
  } catch (cause) {
    if (cause instanceof IdentityError && cause.code.startsWith("ERR_CSR_")) throw cause;
    throw malformed("it is not PKCS #10 in PEM", cause);
  }
}

function assertP256(request: Pkcs10CertificateRequest): void {
  const key = request.publicKey.algorithm as { name?: string; namedCurve?: string };
  const signature = request.signatureAlgorithm as { name?: string; hash?: { name?: string } };
  const isP256 = key.name === "ECDSA" && key.namedCurve === "P-256";
  if (!isP256 || signature.name !== "ECDSA" || signature.hash?.name !== "SHA-256") {
    throw refuse("ERR_CSR_KEY_TYPE", "its key is not ECDSA P-256 or its signature is not ECDSA with SHA-256");
  }
}

function assertNames(request: Pkcs10CertificateRequest, id: SpiffeId): void {
  let names: readonly string[];
  try {
    const wanted = request.extensions.filter((extension) =>
      extension instanceof SubjectAlternativeNameExtension
    );
    names = [
      ...wanted.flatMap(({ names }) => names.items.map(({ type, value }) => `${type}:${value}`)),
      ...request.subjectName.toJSON().flatMap((part) =>
        Object.entries(part).flatMap(([type, values]) => values.map((value) => `${type}:${String(value)}`))
      ),
    ];
  } catch (cause) {
    throw malformed("its names cannot be read", cause);
  }
  const allowed = [`url:${id.uri}`, `CN:${id.name}`];
  if (names.some((name) => !allowed.includes(name))) {
    throw refuse("ERR_CSR_NAME", `it asks for another name than ${id.uri}`);
  }
}

function malformed(reason: string, cause?: unknown): IdentityError {
  return refuse("ERR_CSR_MALFORMED", reason, cause);
}

function refuse(code: CsrErrorCode, reason: string, cause?: unknown): IdentityError {
  return new IdentityError(code, `Cannot accept the certificate signing request: ${reason}`, { cause });
}
