/** Renews the certificate of a user's agent: only a provider that still gives tokens for this user may prolong it. */

import { errorCode, errorMessage } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import { parseCertificatesPem } from "../../identity/certificate.ts";
import { type Identity, readIdentityParts } from "../../identity/identity_file.ts";
import { readSecretFile } from "../../identity/secret_file.ts";
import type { CertificateRenewerOptions } from "../enrol/certificate_renewer.ts";
import { loginFilePath } from "./login_file.ts";
import { certifyAgain, refreshUser } from "./user_login.ts";

/** Longest time for a renewal before an agent starts, in milliseconds. */
const START_TIMEOUT = 30_000;

/** Longest wait between attempts, in milliseconds: a login is renewed also when its certificate is over. */
const LAST_RETRY = 5 * 60_000;

/** How to renew an identity that a login has made; nothing for any other. */
export async function loginRenewal(
  path: string,
  identity: () => Identity,
): Promise<Pick<CertificateRenewerOptions, "request" | "lastRetry">> {
  if (!await isLogin(path)) return {};
  return {
    request: (csr, signal) => certifyAgain(identity(), { path, csr, signal }),
    lastRetry: LAST_RETRY,
  };
}

/** Before an agent starts: renews a login whose certificate is over. Never rejects: what is not renewed is refused later. */
export async function reviveLogin(path: string, { logger }: { readonly logger: Logger }): Promise<void> {
  try {
    if (!await isLogin(path) || !await isOver(path)) return;
    await refreshUser(path, { signal: AbortSignal.timeout(START_TIMEOUT) });
    logger.info("login_renewed", { path });
  } catch (error) {
    logger.warn("login_not_renewed", { path, code: errorCode(error), detail: errorMessage(error) });
  }
}

async function isLogin(path: string): Promise<boolean> {
  try {
    await Deno.stat(loginFilePath(path));
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

async function isOver(path: string): Promise<boolean> {
  const { certificate } = readIdentityParts(await readSecretFile(path), path);
  return parseCertificatesPem(certificate)[0]!.notAfter <= Date.now();
}
