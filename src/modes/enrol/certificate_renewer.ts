/**
 * Keeps a running node's certificate fresh: a new key and certificate at two thirds of the old one's life, soon when
 * another CA issues, and again and again when there is no controller to ask. The identity file is replaced as a whole.
 */

import { sleep } from "../../base/async.ts";
import { errorCode, errorMessage } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { Identity } from "../../identity/identity_file.ts";
import { type Certified, readCertified } from "./controller_answer.ts";
import { controllerClient } from "./controller_client.ts";
import { renewIdentity } from "./renew_identity.ts";
import { isFromFormerCa, renewalTime, urgentDelay } from "./renewal_time.ts";

/** What a renewer needs. */
export interface CertificateRenewerOptions {
  /** The identity file. */
  readonly path: string;
  /** The identity in use. */
  readonly identity: () => Identity;
  readonly logger: Logger;
  /** Called once the file holds the new certificate: from now on use this identity. */
  readonly onRenewed: (identity: Identity) => void | Promise<void>;
  /** Gets a certificate for a signing request; default: from the controllers that the identity knows. */
  readonly request?: (csr: string, signal: AbortSignal) => Promise<Certified>;
  /** Longest wait between attempts, in milliseconds; default half an hour. */
  readonly lastRetry?: number;
  /** Milliseconds since the epoch; default `Date.now`. */
  readonly now?: () => number;
  /** In [0, 1); default `Math.random`. */
  readonly random?: () => number;
}

/** Longest wait, in milliseconds, before the clock is looked at again: while a machine sleeps, timers do too. */
const MAX_WAIT = 30_000;

/** Shortest time between urgent renewals, in milliseconds. */
const URGENT_INTERVAL = 10 * 60_000;

/** Waits between attempts, in milliseconds: doubling, but never a large part of what is left of the life. */
const FIRST_RETRY = 1_000;
const LAST_RETRY = 30 * 60_000;
const RETRY_SHARE = 1 / 10;

/** A controller believes nobody whose certificate is over. */
const EXPIRED_HINT = "Enrol again: ask an administrator for a token, then ginnel enroll --replace";

/** Longest time for one attempt, in milliseconds. */
const ATTEMPT_TIMEOUT = 60_000;

/** Renews one node's certificate until it is closed. */
export class CertificateRenewer implements AsyncDisposable {
  readonly #options: CertificateRenewerOptions;
  readonly #random: number;
  readonly #ending = new AbortController();
  readonly #running: Promise<void>;
  #waiting = new AbortController();
  #failures = 0;
  /** The last one received: renewing does not depend on whether the node took it. */
  #latest: Identity | undefined;
  /** Controllers may not agree on who issues: after a renewal the next urgent one waits. */
  #nextUrgentAt = 0;

  /** Starts at once. */
  constructor(options: CertificateRenewerOptions) {
    this.#options = options;
    this.#random = (options.random ?? Math.random)();
    this.#running = this.#run();
  }

  /** Looks anew when the next renewal is due: after the identity changed by another way, or its trust did. */
  check(): void {
    this.#waiting.abort();
  }

  /** Stops; an attempt that runs is abandoned. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#ending.abort();
    this.#waiting.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#ending;
    let dueAt = this.#dueAt();
    while (!signal.aborted) {
      const wait = dueAt - this.#now();
      if (wait > 0) {
        const isToldTo = await this.#wait(Math.min(wait, MAX_WAIT));
        // What was put off stays put off, unless something is new.
        if (isToldTo || this.#failures === 0) dueAt = this.#dueAt(dueAt);
        continue;
      }
      dueAt = await this.#attempt() ? this.#dueAt() : this.#now() + this.#retryDelay();
    }
  }

  #now(): number {
    return (this.#options.now ?? Date.now)();
  }

  #current(): Identity {
    const identity = this.#options.identity();
    return this.#latest !== undefined && this.#latest.notAfter > identity.notAfter ? this.#latest : identity;
  }

  /** `planned`: when it was due as things were; an urgent renewal is not put off by looking again. */
  #dueAt(planned = Infinity): number {
    const identity = this.#current();
    if (this.#options.request === undefined && (identity.network?.controllers.length ?? 0) === 0) {
      return Infinity;
    }
    const regular = renewalTime(identity, this.#random);
    if (!isFromFormerCa(identity)) return regular;
    const urgent = Math.max(this.#nextUrgentAt, this.#now() + urgentDelay(identity, this.#random));
    return Math.min(regular, planned, urgent);
  }

  /** Returns whether somebody asked to look again. */
  async #wait(milliseconds: number): Promise<boolean> {
    this.#waiting = new AbortController();
    if (this.#ending.signal.aborted) return true;
    try {
      await sleep(milliseconds, { signal: this.#waiting.signal });
      return false;
    } catch {
      // Woken up: the only way this sleep ends early.
      return true;
    }
  }

  async #attempt(): Promise<boolean> {
    const { logger, onRenewed } = this.#options;
    const { id: { uri }, notAfter } = this.#current();
    const signal = AbortSignal.any([this.#ending.signal, AbortSignal.timeout(ATTEMPT_TIMEOUT)]);
    try {
      const renewed = await this.#renew(signal);
      this.#latest = renewed;
      this.#failures = 0;
      this.#nextUrgentAt = this.#now() + URGENT_INTERVAL;
      logger.info("certificate_renewed", {
        identity: uri,
        notAfter: new Date(renewed.notAfter).toISOString(),
      });
    } catch (error) {
      if (this.#ending.signal.aborted) return false;
      this.#failures++;
      const left = notAfter - this.#now();
      const facts = { identity: uri, code: errorCode(error), detail: errorMessage(error) };
      const failures = this.#failures;
      if (left > 0) {
        const secondsLeft = Math.round(left / 1000);
        logger.warn("certificate_not_renewed", { ...facts, failures, secondsLeft });
      } else {
        const since = new Date(notAfter).toISOString();
        logger.error("certificate_expired", { ...facts, failures, since, hint: EXPIRED_HINT });
      }
      return false;
    }
    try {
      await onRenewed(this.#latest);
    } catch (error) {
      logger.error("certificate_not_taken", { identity: uri, detail: errorMessage(error) });
    }
    return true;
  }

  async #renew(signal: AbortSignal): Promise<Identity> {
    const { path, request = (csr, signal) => this.#askController(csr, signal) } = this.#options;
    return await renewIdentity({
      path,
      current: this.#current(),
      request: (csr) => request(csr, signal),
      now: () => this.#now(),
    });
  }

  async #askController(csr: string, signal: AbortSignal): Promise<Certified> {
    using http = controllerClient(() => this.#current());
    const path = "/enrolment/v1/renew";
    // Asked twice it gives two certificates, of which one is forgotten.
    return readCertified(
      await http.request({ method: "POST", path, json: { csr }, signal, repeatable: true }),
    );
  }

  #retryDelay(): number {
    const { lastRetry = LAST_RETRY } = this.#options;
    const left = Math.max(0, this.#current().notAfter - this.#now());
    const most = Math.max(FIRST_RETRY, Math.min(lastRetry, left === 0 ? lastRetry : left * RETRY_SHARE));
    const delay = Math.min(most, FIRST_RETRY * 2 ** Math.min(this.#failures, 20));
    return delay * (0.5 + 0.5 * (this.#options.random ?? Math.random)());
  }
}
