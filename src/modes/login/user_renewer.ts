/**
 * Keeps the certificate of a user's running agent alive: users' certificates are short, and only a provider that still
 * gives tokens for this user may prolong them.
 */

import { backoffDelay, sleep } from "../../base/async.ts";
import { errorCode } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import { parseCertificatesPem } from "../../identity/certificate.ts";
import { readIdentityParts } from "../../identity/identity_file.ts";
import { readSecretFile } from "../../identity/secret_file.ts";
import { loginFilePath } from "./login_file.ts";
import { refreshUser } from "./user_login.ts";

/** What a renewer needs. */
export interface UserRenewerOptions {
  /** The identity file; what a refresh needs is beside it. */
  readonly path: string;
  readonly logger: Logger;
  /** Called once the file holds the new certificate. */
  readonly onRenewed: () => void | Promise<void>;
}

/** Renewal is tried when this share of a certificate's life is over, as for every other node. */
const RENEW_AFTER = 2 / 3;

/** Up to this share of a life is added, so that a morning's logins do not all return in one minute. */
const JITTER = 0.1;

/** Shortest time between renewals, in milliseconds, however short certificates are. */
const MIN_INTERVAL = 10_000;

/** Longest time for one attempt, in milliseconds. */
const ATTEMPT_TIMEOUT = 60_000;

/** Renews one user's certificate until it is closed. */
export class UserRenewer implements AsyncDisposable {
  readonly #options: UserRenewerOptions;
  readonly #ending = new AbortController();
  readonly #running: Promise<void>;

  private constructor(options: UserRenewerOptions) {
    this.#options = options;
    this.#running = this.#run();
  }

  /** Starts renewing; undefined when the identity was not made by a login. */
  static async start(options: UserRenewerOptions): Promise<UserRenewer | undefined> {
    try {
      await Deno.stat(loginFilePath(options.path));
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return undefined;
      throw error;
    }
    return new UserRenewer(options);
  }

  /** Stops; an attempt that runs is abandoned. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#ending.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#ending;
    let failures = 0;
    for (let earliest = 0; !signal.aborted; earliest = MIN_INTERVAL) {
      try {
        const wait = failures === 0
          ? Math.max(earliest, await this.#untilDue())
          : backoffDelay(failures + 2, Math.random());
        await sleep(wait, { signal });
        await this.#renew();
        failures = 0;
      } catch (error) {
        if (signal.aborted) return;
        failures++;
        this.#options.logger.warn("user_renewal_failed", { code: errorCode(error), failures });
        this.#options.logger.debug("user_renewal_failure", { error: String(error) });
      }
    }
  }

  async #renew(): Promise<void> {
    const { path, logger, onRenewed } = this.#options;
    const signal = AbortSignal.any([this.#ending.signal, AbortSignal.timeout(ATTEMPT_TIMEOUT)]);
    await refreshUser(path, { signal });
    logger.info("user_renewed");
    await onRenewed();
  }

  /** Milliseconds until the certificate in the file is due: another process may have renewed it. */
  async #untilDue(): Promise<number> {
    const { path } = this.#options;
    const { certificate } = readIdentityParts(await readSecretFile(path), path);
    const { notBefore, notAfter } = parseCertificatesPem(certificate)[0]!;
    const share = RENEW_AFTER + JITTER * Math.random();
    return Math.max(0, notBefore + share * (notAfter - notBefore) - Date.now());
  }
}
