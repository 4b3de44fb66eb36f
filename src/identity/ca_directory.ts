/**
 * A network's CA on disk: one directory with the CA, its key, and the authority's key pair.
 */

import { join } from "node:path";
import type { JWK } from "jose";
import { errorMessage } from "../base/errors.ts";
import { pathExists } from "../base/paths.ts";
import { AuthorityJwk, createAuthority } from "./authority.ts";
import { IdentityError } from "./errors.ts";
import { type CaBundle, createCa, parseCa } from "./pki.ts";
import { readPublicFile, readSecretFile, writeSecretFile } from "./secret_file.ts";

/** Where the parts of a CA directory are. */
export interface CaPaths {
  readonly certificate: string;
  /** Secret. */
  readonly key: string;
  /** Secret. */
  readonly authorityKey: string;
  readonly authorityPublic: string;
}

/** What anybody may know of a CA. */
export interface PublicCa {
  readonly certificatePem: string;
  readonly authority: JWK;
}

/** A CA that can issue. */
export interface OpenCa {
  readonly ca: CaBundle;
  readonly authority: JWK;
}

const DIRECTORY_MODE = 0o700;
const PUBLIC_FILE_MODE = 0o644;

/** The names of the files in a CA directory. */
export function caPaths(directory: string): CaPaths {
  return {
    certificate: join(directory, "ca.crt"),
    key: join(directory, "ca.key"),
    authorityKey: join(directory, "authority.key"),
    authorityPublic: join(directory, "authority.pub"),
  };
}

/** Makes a new CA and authority in a directory; one that holds any of their files already is left alone. */
export async function createCaDirectory(
  directory: string,
  options: { readonly trustDomain: string; readonly now: number; readonly days: number },
): Promise<OpenCa> {
  const paths = caPaths(directory);
  const ca = await createCa(options);
  const { publicJwk, privateJwk } = await createAuthority();
  await makeDirectory(directory);
  for (const path of Object.values(paths)) await assertAbsent(path);
  await writeSecretFile(paths.key, ca.privateKeyPem);
  await writeSecretFile(paths.authorityKey, formatJwk(privateJwk));
  await writeSecretFile(paths.authorityPublic, formatJwk(publicJwk), { mode: PUBLIC_FILE_MODE });
  await writeSecretFile(paths.certificate, ca.certificatePem, { mode: PUBLIC_FILE_MODE });
  return { ca, authority: publicJwk };
}

/** Opens a CA directory for issuing; its key file must be readable by its owner only. */
export async function openCaDirectory(directory: string): Promise<OpenCa> {
  const { certificatePem, authority } = await readPublicCa(directory);
  const { certificate, key } = caPaths(directory);
  const privateKeyPem = await readSecretFile(key);
  try {
    return { ca: await parseCa({ certificatePem, privateKeyPem }), authority };
  } catch (cause) {
    if (!(cause instanceof IdentityError) || cause.code !== "ERR_IDENTITY_KEY_MISMATCH") throw cause;
    throw new IdentityError(cause.code, `Cannot use the CA: ${key} is not the key of ${certificate}`, {
      cause,
      hint: `If replacing the CA was cut short, repeat it: ginnel ca rotate activate --dir ${directory}`,
    });
  }
}

/** Reads the public half of a CA directory. */
export async function readPublicCa(directory: string): Promise<PublicCa> {
  const paths = caPaths(directory);
  const certificatePem = await readPublicFile(paths.certificate);
  const text = await readPublicFile(paths.authorityPublic);
  return { certificatePem, authority: parsePublicJwk(text, paths.authorityPublic) };
}

function parsePublicJwk(text: string, source: string): JWK {
  try {
    return AuthorityJwk.parse(JSON.parse(text)) as JWK;
  } catch {
    // The cause is dropped on purpose: somebody may have put the private key here, and a parser quotes it.
    throw new IdentityError(
      "ERR_IDENTITY_FILE_CORRUPT",
      `Cannot use ${source}: it is not the public JWK of an authority (EC P-256)`,
    );
  }
}

function formatJwk(jwk: JWK): string {
  return JSON.stringify(jwk, undefined, 2) + "\n";
}

async function makeDirectory(path: string): Promise<void> {
  try {
    await Deno.mkdir(path, { recursive: true, mode: DIRECTORY_MODE });
  } catch (cause) {
    throw new IdentityError(
      "ERR_IDENTITY_FILE_UNWRITABLE",
      `Cannot make the directory ${path}: ${errorMessage(cause)}`,
      {
        cause,
      },
    );
  }
}

async function assertAbsent(path: string): Promise<void> {
  if (!await pathExists(path)) return;
  throw new IdentityError("ERR_IDENTITY_FILE_EXISTS", `Cannot write ${path}: it exists already`, {
    hint: "Choose another directory with --dir, or move this one away",
  });
}
