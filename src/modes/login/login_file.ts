/** The file beside a user's identity: what it takes to log the same user in again without a browser. */

import { z } from "zod";
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
