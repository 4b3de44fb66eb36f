/**
 * Metadata and public keys of OpenID providers by issuer: fetched when needed, cached as long as the provider says within
 * bounds, fetched again for an unknown key but not at anybody's will, and kept for a while when a provider is away.
 */

import type { JWK } from "jose";
import { z } from "zod";
import { GinnelError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import { errorCode } from "../../base/errors.ts";
import { resolveHost } from "../system/resolve_host.ts";
import { type FetchedJson, fetchJson, type FetchJsonOptions } from "./fetch_json.ts";
import { parseAllowedPrivate } from "./public_address.ts";

/** How to reach providers. */
export interface ProviderDirectoryOptions {
  readonly logger: Logger;
  /** Hosts and prefixes that may be reached though they are not public. */
  readonly allowPrivate?: readonly string[];
  /** CA certificates, PEM, trusted beside the built-in ones. */
  readonly roots?: readonly string[];
  /** Milliseconds for one fetch; default 5 s. */
  readonly timeoutMs?: number;
  /** All addresses of a name; default the system's resolver. */
  readonly resolve?: (host: string) => Promise<readonly string[]>;
  /** Milliseconds since the epoch; default `Date.now`. */
  readonly now?: () => number;
}

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

/** How long keys are fresh, whatever the provider says: a minute of its own would be a load, a year no rotation. */
const MIN_FRESH = 5 * MINUTE;
const MAX_FRESH = 24 * HOUR;

/** How long keys are used after they stopped being fresh while the provider does not answer. */
const MAX_STALE = 12 * HOUR;

/**
 * How long no fetch follows one that did not bring the key a token names: clients choose what they name. A provider that
 * rotates its keys is followed at once.
 */
const UNKNOWN_KEY_INTERVAL = MINUTE;

/** Shortest time between fetches of a provider that fails. */
const RETRY_INTERVAL = 10_000;

/** Most issuers remembered; only configured ones are ever asked for. */
const MAX_ISSUERS = 256;

/** Most keys of one provider. */
const MAX_KEYS = 64;

const Metadata = z.object({ issuer: z.string(), jwks_uri: z.string().max(2048) });

const Text = z.string().max(2048);
const PUBLIC_KEY = z.object({
  kty: z.enum(["RSA", "EC", "OKP"]),
  kid: Text.optional(),
  alg: Text.optional(),
  use: Text.optional(),
  n: Text.optional(),
  e: z.string().max(16).optional(),
  crv: Text.optional(),
  x: Text.optional(),
  y: Text.optional(),
});
const KeySet = z.object({ keys: z.array(z.unknown()).max(MAX_KEYS) });

/** What is known of one provider. */
interface Known {
  keys: readonly JWK[] | undefined;
  /** Milliseconds since the epoch, all of them. */
  freshUntil: number;
  attemptedAt: number;
  /** When keys were last fetched for one that the provider does not have. */
  inVainAt: number;
  pending: Promise<void> | undefined;
  failure: unknown;
}

/** Keys of all providers; one for a controller. */
export class ProviderDirectory {
  readonly #options: ProviderDirectoryOptions;
  readonly #fetch: FetchJsonOptions;
  readonly #now: () => number;
  readonly #known = new Map<string, Known>();

  constructor(options: ProviderDirectoryOptions) {
    const { allowPrivate = [], resolve = resolveHost, now = Date.now, roots, timeoutMs } = options;
    this.#options = options;
    this.#now = now;
    this.#fetch = {
      allowed: parseAllowedPrivate(allowPrivate),
      resolve,
      ...(roots === undefined ? {} : { roots }),
      ...(timeoutMs === undefined ? {} : { timeoutMs }),
    };
  }

  /**
   * The public keys of an issuer, for a token that names one or none. Throws when there are none to be had; a key
   * that the provider does not have is not among them.
   */
  async keys(issuer: string, wanted: { readonly kid: string | undefined }): Promise<readonly JWK[]> {
    const known = this.#of(issuer);
    const now = this.#now();
    const lacks = () =>
      wanted.kid !== undefined && known.keys?.every(({ kid }) => kid !== wanted.kid) === true;
    const isWorthIt = known.keys === undefined || now >= known.freshUntil ||
      (lacks() && now >= known.inVainAt + UNKNOWN_KEY_INTERVAL);
    const wait = known.failure === undefined ? 0 : RETRY_INTERVAL;
    if (isWorthIt && (known.pending !== undefined || now >= known.attemptedAt + wait)) {
      await (known.pending ??= this.#refresh(issuer, known));
      if (known.failure === undefined && lacks()) known.inVainAt = now;
    }
    if (known.keys !== undefined && this.#now() < known.freshUntil + MAX_STALE) return known.keys;
    throw new GinnelError("ERR_OIDC_PROVIDER", `Cannot get the keys of ${issuer}`, {
      cause: known.failure,
      hint: "See that the controller can reach the provider, then try again",
    });
  }

  #of(issuer: string): Known {
    let known = this.#known.get(issuer);
    if (known === undefined) {
      const [oldest] = this.#known.keys();
      if (this.#known.size >= MAX_ISSUERS) this.#known.delete(oldest!);
      known = {
        keys: undefined,
        freshUntil: 0,
        attemptedAt: -Infinity,
        inVainAt: -Infinity,
        pending: undefined,
        failure: undefined,
      };
      this.#known.set(issuer, known);
    }
    return known;
  }

  /** Never rejects: what went wrong is remembered, and old keys stay. */
  async #refresh(issuer: string, known: Known): Promise<void> {
    known.attemptedAt = this.#now();
    try {
      const { keys, maxAge } = await this.#load(issuer);
      known.keys = keys;
      known.freshUntil = this.#now() + Math.min(MAX_FRESH, Math.max(MIN_FRESH, maxAge));
      known.failure = undefined;
      this.#options.logger.debug("oidc_keys_fetched", { issuer, keys: keys.length });
    } catch (error) {
      known.failure = error;
      this.#options.logger.warn("oidc_keys_unavailable", { issuer, code: errorCode(error) });
      this.#options.logger.debug("oidc_keys_failure", { issuer, error: String(error) });
    } finally {
      known.pending = undefined;
    }
  }

  async #load(issuer: string): Promise<{ readonly keys: readonly JWK[]; readonly maxAge: number }> {
    const discovery = `${issuer.replace(/\/$/, "")}/.well-known/openid-configuration`;
    const metadata = Metadata.safeParse((await fetchJson(discovery, this.#fetch)).value);
    if (!metadata.success) throw unusable(issuer, "its metadata names no keys");
    // Another issuer's metadata would bring another issuer's keys.
    if (metadata.data.issuer !== issuer) throw unusable(issuer, "its metadata is another issuer's");
    const answer = await fetchJson(metadata.data.jwks_uri, this.#fetch);
    const set = KeySet.safeParse(answer.value);
    if (!set.success) throw unusable(issuer, "what it has for keys is no key set");
    return { keys: set.data.keys.flatMap(publicKey), maxAge: maxAgeOf(answer.headers) };
  }
}

/** The public members of a usable key; anything private or symmetric, and any kind we do not know, is left out. */
function publicKey(value: unknown): JWK[] {
  const key = PUBLIC_KEY.safeParse(value);
  if (!key.success) return [];
  return [Object.fromEntries(Object.entries(key.data).filter(([, member]) => member !== undefined)) as JWK];
}

/** Milliseconds that an answer says it may be cached. */
function maxAgeOf(headers: FetchedJson["headers"]): number {
  const seconds = /(?:^|[,\s])max-age=(\d{1,9})/i.exec(headers["cache-control"] ?? "")?.[1];
  return seconds === undefined ? HOUR : Number(seconds) * 1000;
}

function unusable(issuer: string, reason: string): GinnelError {
  return new GinnelError("ERR_OIDC_PROVIDER", `Cannot use the provider ${issuer}: ${reason}`);
}
