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
import { MAX_TRUSTED, type NodeNetwork, NodeNetworkSchema } from "./network_document.ts";
import { importPrivateKey } from "./pki.ts";
import { readSecretFile, writeSecretFile } from "./secret_file.ts";
import type { SpiffeId } from "./spiffe_id.ts";

/** What an identity trusts. */
export interface Trust {
  readonly domain: string;
  /** CA certificates, PEM. */
  readonly roots: readonly string[];
  /** Public keys that may sign views and network documents. */
  readonly authorities: readonly JWK[];
  /** Foreign trust domains whose identities are admitted, each under its own CAs alone. */
  readonly foreign: readonly ForeignTrust[];
}

/** A foreign trust domain and its CA certificates, PEM. */
export interface ForeignTrust {
  readonly domain: string;
  readonly roots: readonly string[];
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
  /** What it knows of the network; undefined where it was issued offline and has not heard of a controller. */
  readonly network: NodeNetwork | undefined;
}

/** What an identity file is made of. */
export interface IdentityParts {
  readonly id: SpiffeId;
  readonly certificatePem: string;
  readonly privateKeyPem: string;
  /** Foreign trust is not among it: it follows from `network`. */
  readonly trust: Omit<Trust, "foreign">;
  readonly network?: NodeNetwork | undefined;
}

/** Writes of one file happen one after the other, so that a renewal and a network change both last. */
const pendingWrites = new Map<string, Promise<unknown>>();

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
  network: NodeNetworkSchema.optional(),
});

/** Reads and checks an identity file, which only its owner may be able to read. */
export async function loadIdentity(
  path: string,
  options: {
    readonly now?: number;
    /** Also when its certificate is over: who was away for longer may renew by other means. */
    readonly evenExpired?: boolean;
  } = {},
): Promise<Identity> {
  const { now = Date.now(), evenExpired = false } = options;
  const text = await readSecretFile(path);
  const time = evenExpired ? Math.min(now, lastMoment(text, path)) : now;
  return await parseIdentity(text, { source: path, now: time });
}

/**
 * Changes an identity file: what `change` returns replaces those parts. The new file is checked as a whole before it
 * takes the old one's place, and appears whole or not at all; returns what it then holds.
 */
export async function updateIdentityFile(
  path: string,
  change: (current: Identity) => Partial<Omit<IdentityParts, "id">>,
  options: { readonly now?: number } = {},
): Promise<Identity> {
  const update = async () => {
    const { now = Date.now() } = options;
    const current = await loadIdentity(path, { now, evenExpired: true });
    const text = formatIdentity({ ...current, ...change(current) });
    const updated = await parseIdentity(text, { source: path, now });
    await writeSecretFile(path, text, { replace: true });
    return updated;
  };
  const before = pendingWrites.get(path) ?? Promise.resolve();
  const mine = before.then(update, update);
  pendingWrites.set(path, mine);
  try {
    return await mine;
  } finally {
    if (pendingWrites.get(path) === mine) pendingWrites.delete(path);
  }
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
      trust: {
        ...file.trust,
        authorities: file.trust.authorities as JWK[],
        foreign: (file.network?.trustDomains ?? []).map(({ name, roots }) => ({ domain: name, roots })),
      },
      network: file.network,
    };
  } catch (error) {
    throw inFile(error, { source, id: file.id });
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
    ...(parts.network === undefined ? {} : { network: parts.network }),
  };
  return JSON.stringify(file, undefined, 2) + "\n";
}

/** The last millisecond in which the certificate of an identity file is valid, if it can be read. */
function lastMoment(text: string, source: string): number {
  try {
    return parseCertificatesPem(readShape(text, source).certificate)[0]!.notAfter - 1;
  } catch {
    // Whoever reads the whole file says what is wrong with it.
    return Infinity;
  }
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
function inFile(error: unknown, { source, id }: { readonly source: string; readonly id: string }): unknown {
  if (!(error instanceof IdentityError) || error.message.includes(source)) return error;
  const hint = error.code === "ERR_CERT_EXPIRED" ? expiredHint(id) : error.hint;
  const code: IdentityErrorCode = error.code === "ERR_CERT_MALFORMED"
    ? "ERR_IDENTITY_FILE_CORRUPT"
    : error.code;
  return new IdentityError(code, `${source}: ${error.message}`, {
    cause: error,
    ...(hint === undefined ? {} : { hint }),
  });
}

function expiredHint(id: string): string {
  return /^spiffe:\/\/[^/]+\/user\//.test(id)
    ? "Log in again with: ginnel login"
    : "Check the clock; if it is right, enrol again with a new token (ginnel enroll), or, where there is no controller, issue a new identity with: ginnel ca issue KIND NAME";
}

function corrupt(source: string, reason: string): IdentityError {
  return new IdentityError("ERR_IDENTITY_FILE_CORRUPT", `Cannot use the identity file ${source}: ${reason}`);
}
