/**
 * The identity file: one JSON file with a node's certificate, private key and what it trusts. It is
 * checked as a whole before anything uses it: shape, key, chain, validity and ownership.
 */

import type { JWK } from "jose";
import { z } from "zod";
import { AuthorityJwk } from "./authority.ts";
import { verifyChain } from "./chain.ts";
import { parseCertificatesPem } from "./certificate.ts";
import { IdentityError, type IdentityErrorCode } from "./errors.ts";
import { importPrivateKey } from "./pki.ts";
import { readSecretFile } from "./secret_file.ts";
import type { SpiffeId } from "./spiffe_id.ts";

/** What an identity trusts. */
export interface Trust {
  readonly domain: string;
  /** CA certificates, PEM. */
  readonly roots: readonly string[];
  /** Public keys that may sign views. */
  readonly authorities: readonly JWK[];
}

/** A loaded identity. */
export interface Identity {
  readonly id: SpiffeId;
  readonly certificatePem: string;
  readonly chainDer: readonly Uint8Array<ArrayBuffer>[];
  readonly privateKeyPem: string;
  readonly privateKey: CryptoKey;
  /** Milliseconds since the epoch. */
  readonly notAfter: number;
  readonly trust: Trust;
}

/** What an identity file is made of. */
export interface IdentityParts {
  readonly id: SpiffeId;
  readonly certificatePem: string;
  readonly privateKeyPem: string;
  readonly trust: Trust;
}

/** Most CAs, and most authorities, that one file may name. */
const MAX_TRUSTED = 16;

const IdentityFile = z.strictObject({
  version: z.literal(1),
  id: z.string(),
  certificate: z.string(),
  privateKey: z.string(),
  trust: z.strictObject({
    domain: z.string(),
    roots: z.array(z.string()).min(1).max(MAX_TRUSTED),
    authorities: z.array(AuthorityJwk).min(1).max(MAX_TRUSTED),
  }),
});

/** Reads and checks an identity file, which only its owner may be able to read. */
export async function loadIdentity(path: string, options: { readonly now?: number } = {}): Promise<Identity> {
  const { now = Date.now() } = options;
  return await parseIdentity(await readSecretFile(path), { source: path, now });
}

/** Checks the text of an identity file; `source` names it in errors. */
export async function parseIdentity(
  text: string,
  options: { readonly source: string; readonly now: number },
): Promise<Identity> {
  const { source, now } = options;
  const file = readShape(text, source);
  try {
    const chain = parseCertificatesPem(file.certificate);
    const privateKey = await importPrivateKey(file.privateKey, chain[0]!);
    const verified = await verifyChain({
      chain: file.certificate,
      roots: file.trust.roots,
      trustDomain: file.trust.domain,
      now,
    });
    if (verified.id.uri !== file.id) throw corrupt(source, "its id is not the one in the certificate");
    return {
      id: verified.id,
      certificatePem: file.certificate,
      chainDer: chain.map((certificate) => certificate.der),
      privateKeyPem: file.privateKey,
      privateKey,
      notAfter: verified.notAfter,
      trust: { ...file.trust, authorities: file.trust.authorities as JWK[] },
    };
  } catch (error) {
    throw inFile(error, source);
  }
}

/** Reads the public parts of an identity file's text by shape alone; nothing is verified. */
export function readIdentityParts(
  text: string,
  source: string,
): { readonly certificate: string; readonly authorities: readonly JWK[] } {
  const { certificate, trust } = readShape(text, source);
  return { certificate, authorities: trust.authorities as JWK[] };
}

/** Writes the text of an identity file. */
export function formatIdentity(parts: IdentityParts): string {
  const file: z.input<typeof IdentityFile> = {
    version: 1,
    id: parts.id.uri,
    certificate: parts.certificatePem,
    privateKey: parts.privateKeyPem,
    trust: {
      domain: parts.trust.domain,
      roots: [...parts.trust.roots],
      authorities: parts.trust.authorities.map((jwk) => AuthorityJwk.parse(jwk)),
    },
  };
  return JSON.stringify(file, undefined, 2) + "\n";
}

function readShape(text: string, source: string): z.output<typeof IdentityFile> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    // The cause is dropped on purpose: the parser quotes the text, and the text holds a key.
    throw corrupt(source, "it is not JSON");
  }
  const result = IdentityFile.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0]!;
  throw corrupt(source, `${issue.path.join(".") || "the file"}: ${issue.message}`);
}

/** Repeats an error with the file's name in front, keeping its code. */
function inFile(error: unknown, source: string): unknown {
  if (!(error instanceof IdentityError) || error.message.includes(source)) return error;
  const hint = error.code === "ERR_CERT_EXPIRED"
    ? "Issue a new identity with: ginnel ca issue KIND NAME"
    : error.hint;
  const code: IdentityErrorCode = error.code === "ERR_CERT_MALFORMED"
    ? "ERR_IDENTITY_FILE_CORRUPT"
    : error.code;
  return new IdentityError(code, `${source}: ${error.message}`, {
    cause: error,
    ...(hint === undefined ? {} : { hint }),
  });
}

function corrupt(source: string, reason: string): IdentityError {
  return new IdentityError("ERR_IDENTITY_FILE_CORRUPT", `Cannot use the identity file ${source}: ${reason}`);
}
