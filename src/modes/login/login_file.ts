/** The file beside a user's identity: what it takes to log the same user in again without a browser. */

import { z } from "zod";
import { sleep } from "../../base/async.ts";
import { GinnelError } from "../../base/errors.ts";
import { readSecretFile, writeSecretFile } from "../../identity/secret_file.ts";

const LoginFileSchema = z.strictObject({
  version: z.literal(1),
  /** The provider's name in the network. */
  provider: z.string(),
  issuer: z.string(),
  clientId: z.string(),
  scopes: z.array(z.string()),
  /** The first login's challenge: ID tokens from refreshes carry its hash. */
  origin: z.string(),
  /** Null where the provider gave none. */
  refreshToken: z.string().nullable(),
  /** CA certificates for the provider, PEM. */
  providerRoots: z.array(z.string()),
});

/** Milliseconds between looks at a login that another process has taken. */
const LOCK_INTERVAL = 50;

/** What a login leaves for the next. */
export type LoginFile = Readonly<z.output<typeof LoginFileSchema>>;

/** Where the file of an identity is. */
export function loginFilePath(identityPath: string): string {
  return `${identityPath}.login`;
}

/** Reads the file of an identity. */
export async function readLoginFile(identityPath: string): Promise<LoginFile> {
  const path = loginFilePath(identityPath);
  const text = await readSecretFile(path);
  try {
    return LoginFileSchema.parse(JSON.parse(text));
  } catch {
    // The cause is dropped on purpose: a parser's message may quote the refresh token.
    throw new GinnelError("ERR_LOGIN_FILE", `Cannot use ${path}: it is not what a login leaves`, {
      hint: "Log in again with: ginnel login",
    });
  }
}

/** Writes the file of an identity, in place of an older one. */
export async function writeLoginFile(identityPath: string, file: LoginFile): Promise<void> {
  const text = JSON.stringify(file, undefined, 2) + "\n";
  await writeSecretFile(loginFilePath(identityPath), text, { replace: true });
}

/**
 * Takes the login of an identity for one process at a time: a provider may give a refresh token up for stolen, and end
 * the whole login, when two use it at once. Without a file there is nothing to take.
 */
export async function lockLogin(identityPath: string, signal: AbortSignal): Promise<Disposable> {
  const path = loginFilePath(identityPath);
  for (;;) {
    const file = await openIfThere(path);
    if (file === undefined) return { [Symbol.dispose]() {} };
    let isMine = false;
    try {
      while (!await file.tryLock(true)) await sleep(LOCK_INTERVAL, { signal });
      // Whoever had it before may have put another file in its place, and others may hold that one.
      isMine = await isSameFile(file, path);
      if (isMine) return file;
    } finally {
      if (!isMine) file.close();
    }
  }
}

async function openIfThere(path: string): Promise<Deno.FsFile | undefined> {
  try {
    return await Deno.open(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

async function isSameFile(file: Deno.FsFile, path: string): Promise<boolean> {
  const { ino, dev } = await file.stat();
  try {
    const there = await Deno.stat(path);
    return there.ino === ino && there.dev === dev;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}
