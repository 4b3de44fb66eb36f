/**
 * Proofs: the short signed assertion (RFC 7523 in spirit) by which an identity shows itself to a relay. A proof is a JWS
 * with the certificate chain in `x5c`; it names the relay it is for, lives a minute at most and works once.
 */

import { createHash } from "node:crypto";
import { base64url } from "jose";
import { z } from "zod";
import { assertValidity } from "./certificate_checks.ts";
import { type CertificateReference, revoked, type VerifiedChain, verifyChain } from "./chain.ts";
import type { ForeignTrust, Identity } from "./identity_file.ts";
import { CLOCK_TOLERANCE_SECONDS } from "./jws.ts";
import { decodeBase64 } from "./pem.ts";
import {
  assertWindow,
  CommonClaims,
  commonClaims,
  readClaims,
  readX5c,
  refuseProof,
  signProof,
} from "./proof_token.ts";
import { ReplayCache, type ReplayCacheOptions } from "./replay_cache.ts";
import type { SpiffeId } from "./spiffe_id.ts";

/** What to prove, and to whom. */
export interface CreateProofOptions {
  readonly identity: Identity;
  /** The relay's name, such as "relay-1". */
  readonly audience: string;
  /** Milliseconds since the epoch. */
  readonly now: number;
  /** See {@linkcode VerifiedProof.group}: 16 to 43 base64url characters that only the relay is told. */
  readonly group?: string;
  /** Fills its argument with random bytes; default `crypto.getRandomValues`. */
  readonly rng?: (target: Uint8Array<ArrayBuffer>) => Uint8Array<ArrayBuffer>;
}

/** Who showed a valid proof. */
export interface VerifiedProof {
  readonly id: SpiffeId;
  /** When the certificate chain ends, milliseconds since the epoch. */
  readonly notAfter: number;
  /** Upper-case hexadecimal. */
  readonly certificateSerial: string;
  /** The leaf and its intermediates, DER; the same object for each proof by the same chain. */
  readonly chain: readonly Uint8Array[];
  /** Connections whose proofs name the same group are renewed together: those of one process at one relay. */
  readonly group: string | undefined;
}

/** Whom a verifier trusts. */
export interface ProofTrust {
  /** The network's own CA certificates, PEM. */
  readonly roots: readonly string[];
  /** Foreign trust domains whose identities are admitted as workloads. */
  readonly foreign?: readonly ForeignTrust[];
}

/** How a verifier judges. */
export interface ProofVerifierOptions extends ProofTrust {
  /** The relay's own name. */
  readonly audience: string;
  readonly trustDomain: string;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  readonly isRevoked?: (certificate: CertificateReference) => boolean;
  /** Whether an identity whose certificate is good is known and enabled; without it every one is. */
  readonly admits?: (certificate: CertificateReference) => boolean | Promise<boolean>;
  readonly replay?: ReplayCacheOptions;
}

/** The `typ` of a proof: no other token of the network can pass for one. */
export const PROOF_TYPE = "ginnel-proof+jwt";

/**
 * A restarted verifier accepts proofs made up to this long before it started, in seconds: for clocks a little behind and
 * proofs made while it was starting. Older ones might have been used with its predecessor.
 */
const START_GRACE_SECONDS = 2;

/** Verified chains kept by one verifier. One takes about 4 KB, so 4,096 are worth 16 MB at most. */
const MAX_CACHED_CHAINS = 4096;

const JTI_LENGTH = 16;

const TOKEN_NAME = z.string().regex(/^[A-Za-z0-9_-]{16,43}$/);

const ProofClaims = CommonClaims.extend({
  jti: TOKEN_NAME,
  group: TOKEN_NAME.optional(),
});

type ProofClaims = z.output<typeof ProofClaims>;

/** Makes a proof for one relay; send it once, within half a minute, as `Authorization: Bearer`. */
export async function createProof(options: CreateProofOptions): Promise<string> {
  const { identity, audience, now, group, rng = crypto.getRandomValues.bind(crypto) } = options;
  const claims: ProofClaims = {
    ...commonClaims({ identity, audience, now }),
    jti: base64url.encode(rng(new Uint8Array(JTI_LENGTH))),
    ...(group === undefined ? {} : { group }),
  };
  return await signProof(claims, { identity, type: PROOF_TYPE });
}

/**
 * Verifies proofs for one relay. The order is cheap before expensive: size, shape, algorithm; chain (cached); signature;
 * claims; and last the replay cache, which therefore only holders of a valid certificate can fill.
 */
export class ProofVerifier {
  readonly #options: ProofVerifierOptions;
  readonly #replays: ReplayCache;
  readonly #startedAt: number;
  #trust: ProofTrust;
  /** Chains verified under the present trust. */
  #chains = new Map<string, VerifiedChain>();

  constructor(options: ProofVerifierOptions) {
    this.#options = options;
    this.#trust = options;
    this.#replays = new ReplayCache(options.replay);
    this.#startedAt = Math.floor(options.now() / 1000);
  }

  /**
   * Trusts others from now on; what was verified before is verified anew, proofs that are being judged included. Returns
   * whether a CA lost its trust: then {@linkcode isTrusted} may tell otherwise than before.
   */
  updateTrust(trust: ProofTrust): boolean {
    const kept = new Set(rootsOf(trust));
    const isNarrower = rootsOf(this.#trust).some((root) => !kept.has(root));
    this.#trust = trust;
    this.#chains = new Map();
    return isNarrower;
  }

  /** Whether a chain shown before still verifies. */
  async isTrusted(chain: readonly Uint8Array[]): Promise<boolean> {
    const { trustDomain, now } = this.#options;
    const { roots, foreign = [] } = this.#trust;
    try {
      await verifyChain({ chain, roots, trustDomain, foreign, now: now() });
      return true;
    } catch {
      // Whatever is wrong with it.
      return false;
    }
  }

  /** Returns who is asking; throws an `IdentityError` whose code says why not. */
  async verify(token: string): Promise<VerifiedProof> {
    const x5c = readX5c(token, PROOF_TYPE);
    let chain = await this.#verifiedChain(x5c);
    const claims = await readClaims(token, { key: chain.publicKey, schema: ProofClaims });
    if (claims.sub !== chain.id.uri || claims.iss !== chain.id.uri) {
      throw refuseProof("ERR_SUBJECT_MISMATCH", "its subject or issuer is not the certificate's SPIFFE ID");
    }
    if (claims.aud !== this.#options.audience) {
      throw refuseProof("ERR_PROOF_AUDIENCE", `it is for another relay than ${this.#options.audience}`);
    }
    this.#assertTime(claims, this.#options.now());
    if (await this.#options.admits?.({ id: chain.id, serial: chain.serial }) === false) {
      throw refuseProof(
        "ERR_IDENTITY_NOT_ADMITTED",
        `the network does not know ${chain.id.uri}, or disabled it`,
      );
    }
    // While this waited, trust or the list of what is revoked may have changed: the present ones count.
    chain = await this.#verifiedChain(x5c);
    // The clock is read after the last wait, so that nothing expires unseen in between.
    const now = this.#options.now();
    this.#assertTime(claims, now);
    this.#assertFresh(claims, now);
    return {
      id: chain.id,
      notAfter: chain.notAfter,
      certificateSerial: chain.serial,
      chain: chain.chainDer,
      group: claims.group,
    };
  }

  async #verifiedChain(x5c: readonly string[]): Promise<VerifiedChain> {
    const { trustDomain, isRevoked } = this.#options;
    const now = this.#options.now();
    // The whole chain is the key, not the leaf alone: what was verified is exactly what is remembered.
    const key = createHash("sha256").update(x5c.join()).digest("base64");
    for (;;) {
      const known = this.#chains.get(key);
      if (known !== undefined) {
        assertValidity(known, { now, what: "a certificate of the chain" });
        if (isRevoked?.({ id: known.id, serial: known.serial })) throw revoked(known.id);
        this.#keep(key, known);
        return known;
      }
      const { roots, foreign = [] } = this.#trust;
      const chains = this.#chains;
      const chain = await verifyChain({ chain: x5c.map(decodeBase64), roots, trustDomain, foreign, now });
      // Verified under a trust that has changed meanwhile: that of now decides.
      if (chains === this.#chains) this.#keep(key, chain);
    }
  }

  /** Remembers a chain as the most recently used; the least recently used one makes room. */
  #keep(key: string, chain: VerifiedChain): void {
    this.#chains.delete(key);
    if (this.#chains.size >= MAX_CACHED_CHAINS) this.#chains.delete(this.#chains.keys().next().value!);
    this.#chains.set(key, chain);
  }

  #assertTime(claims: ProofClaims, now: number): void {
    assertWindow(claims, now);
    // The replay cache starts empty with the verifier: a proof from before that may have been used already.
    if (claims.iat < this.#startedAt - START_GRACE_SECONDS) {
      throw refuseProof("ERR_PROOF_BEFORE_START", "it was made before this relay started");
    }
  }

  #assertFresh(claims: ProofClaims, now: number): void {
    const expiresAt = (claims.exp + CLOCK_TOLERANCE_SECONDS) * 1000;
    switch (this.#replays.use({ owner: claims.sub, id: claims.jti, expiresAt, now })) {
      case "fresh":
        return;
      case "replayed":
        throw refuseProof("ERR_PROOF_REPLAYED", "it was used before");
      case "expired":
        throw refuseProof("ERR_PROOF_EXPIRED", "it has expired");
      case "full":
        throw refuseProof(
          "ERR_REPLAY_CACHE_FULL",
          "too many proofs were used in the last minute",
          "Try again in a minute",
        );
    }
  }
}

/** Every CA with the trust domain that it may vouch for. */
function rootsOf({ roots, foreign = [] }: ProofTrust): string[] {
  return [...roots, ...foreign.flatMap(({ domain, roots }) => roots.map((root) => `${domain} ${root}`))];
}
