/**
 * Replacing a network's CA without a gap: the next CA is staged and trusted beside the one that issues, then it issues
 * and the old one is still trusted, then the old one is retired. Each step is one command; a step cut short is repeated.
 */

import { createHash } from "node:crypto";
import { join } from "node:path";
import { pathExists, removeIfPresent } from "../base/paths.ts";
import { IdentityError } from "./errors.ts";
import { caPaths, openCaDirectory } from "./ca_directory.ts";
import { decodePem } from "./pem.ts";
import { createCa, parseCa } from "./pki.ts";
import { readPublicFile, readSecretFile, writeSecretFile } from "./secret_file.ts";

/** The CA certificates of a directory, PEM. */
export interface CaSet {
  /** The CA that issues. */
  readonly issuing: string;
  /** The CA that will issue; trusted already. */
  readonly staged: string | undefined;
  /** CAs that issued before and are still trusted. */
  readonly previous: readonly string[];
}

const PUBLIC_FILE_MODE = 0o644;
const DIRECTORY_MODE = 0o700;

/** SHA-256 of a CA certificate, base64url: how enrolment tokens name it. */
export function caFingerprint(certificatePem: string): string {
  return createHash("sha256").update(decodePem("CERTIFICATE", certificatePem)[0]!).digest("base64url");
}

/** Reads all CA certificates of a directory. */
export async function readCaSet(directory: string): Promise<CaSet> {
  const { nextCertificate, previous } = rolloverPaths(directory);
  const files: string[] = [];
  try {
    for await (const entry of Deno.readDir(previous)) {
      if (entry.isFile && entry.name.endsWith(".crt")) files.push(join(previous, entry.name));
    }
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw error;
  }
  return {
    issuing: await readPublicFile(caPaths(directory).certificate),
    staged: await pathExists(nextCertificate) ? await readPublicFile(nextCertificate) : undefined,
    previous: await Promise.all(files.sort().map(readPublicFile)),
  };
}

/** Makes the next CA. From now on it is trusted; it does not issue yet. Returns its certificate. */
export async function stageCa(
  directory: string,
  options: { readonly now: number; readonly days: number },
): Promise<string> {
  const { next, nextCertificate, nextKey } = rolloverPaths(directory);
  const { ca: { trustDomain } } = await openCaDirectory(directory);
  if (await pathExists(nextCertificate)) {
    throw wrongStep("there is a staged CA already", "Run: ginnel ca rotate activate");
  }
  const ca = await createCa({ trustDomain, ...options });
  await Deno.mkdir(next, { recursive: true, mode: DIRECTORY_MODE });
  // The certificate comes last: while it is not there, nothing is staged, and staging starts anew.
  await writeSecretFile(nextKey, ca.privateKeyPem, { replace: true });
  await writeSecretFile(nextCertificate, ca.certificatePem, { mode: PUBLIC_FILE_MODE });
  return ca.certificatePem;
}

/** Lets the staged CA issue. The one before stays trusted; its key is gone. Returns the issuing certificate. */
export async function activateCa(directory: string): Promise<string> {
  const paths = caPaths(directory);
  const { nextCertificate, nextKey, previous } = rolloverPaths(directory);
  if (!await pathExists(nextCertificate)) {
    throw wrongStep("there is no staged CA", "Run first: ginnel ca rotate stage");
  }
  const certificatePem = await readPublicFile(nextCertificate);
  // Cut short before, the key has moved already.
  const privateKeyPem = await readSecretFile(await pathExists(nextKey) ? nextKey : paths.key);
  await parseCa({ certificatePem, privateKeyPem });
  const before = await readPublicFile(paths.certificate);
  await Deno.mkdir(previous, { recursive: true, mode: DIRECTORY_MODE });
  await writeSecretFile(join(previous, `${caFingerprint(before)}.crt`), before, {
    mode: PUBLIC_FILE_MODE,
    replace: true,
  });
  await writeSecretFile(paths.key, privateKeyPem, { replace: true });
  await writeSecretFile(paths.certificate, certificatePem, { replace: true, mode: PUBLIC_FILE_MODE });
  for (const path of [nextKey, nextCertificate]) await removeIfPresent(path);
  return certificatePem;
}

/** Ends the trust in all CAs that issued before; returns how many there were. */
export async function retireCas(directory: string): Promise<number> {
  const { issuing, previous } = await readCaSet(directory);
  // An activation cut short leaves the CA that issues among those before.
  const old = previous.filter((pem) => caFingerprint(pem) !== caFingerprint(issuing));
  if (old.length === 0) {
    throw wrongStep("no earlier CA is trusted", "Run first: ginnel ca rotate stage, then activate");
  }
  await Deno.remove(rolloverPaths(directory).previous, { recursive: true });
  return old.length;
}

function rolloverPaths(directory: string) {
  const next = join(directory, "next");
  return {
    next,
    nextCertificate: join(next, "ca.crt"),
    nextKey: join(next, "ca.key"),
    previous: join(directory, "previous"),
  };
}

function wrongStep(reason: string, hint: string): IdentityError {
  return new IdentityError("ERR_CA_ROLLOVER", `Cannot take this step of replacing the CA: ${reason}`, {
    hint,
  });
}
