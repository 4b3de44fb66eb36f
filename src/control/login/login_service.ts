/**
 * Logins: an ID token of a configured provider, tied to this device by a challenge, becomes a user identity and a short
 * certificate for the key in the device's request. Every login and every refusal is audited.
 */

import { createHash } from "node:crypto";
import { errorCode } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { AuthProviderSpec, Resource } from "../../core/network/resources.ts";
import type { Authority } from "../../identity/authority.ts";
import { readCsr } from "../../identity/csr.ts";
import { IdentityError } from "../../identity/errors.ts";
import { CLOCK_TOLERANCE_SECONDS } from "../../identity/jws.ts";
import { mapClaims } from "./map_claims.ts";
import {
  type IdTokenClaims,
  type IdTokenFault,
  type IdTokenVerdict,
  verifyIdToken,
} from "../../identity/oidc/verify_id_token.ts";
import { parseSpiffeId } from "../../identity/spiffe_id.ts";
import type { Store, StoreTransaction } from "../store.ts";
import {
  createChallenge,
  type LoginChallenge,
  MAX_CHALLENGE_LENGTH,
  nonceOf,
  verifyChallenge,
} from "./login_challenge.ts";
import type { ProviderKeys } from "./provider_keys.ts";
import { upsertUser } from "./user_identity.ts";

/** A certificate for a user, as the network's CA issued it. */
export interface IssuedUserCertificate {
  /** Leaf first, PEM. */
  readonly certificate: string;
  /** Upper-case hexadecimal. */
  readonly serial: string;
  /** Milliseconds since the epoch. */
  readonly issuedAt: number;
  readonly notAfter: number;
  /** Key id of the CA. */
  readonly issuer: string;
}

/** What logins need of the controller. */
export interface LoginPorts {
  readonly store: Pick<Store, "transaction" | "list" | "find" | "appendAudit">;
  readonly providers: ProviderKeys;
  /** Issues a certificate for `user/<name>` and this key, for as long as users' certificates last. */
  readonly issueUser: (
    user: { readonly name: string; readonly publicKey: CryptoKey },
  ) => Promise<IssuedUserCertificate>;
  /** The signed network document. */
  readonly network: () => Promise<string>;
  readonly authority: () => Authority;
  readonly trustDomain: string;
  /** This controller's SPIFFE ID, the source of its audit entries. */
  readonly source: string;
  readonly logger: Logger;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
}

/** A provider as devices see it before they log in. */
export interface PublicProvider {
  readonly name: string;
  readonly issuer: string;
  readonly clientId: string;
  readonly scopes: readonly string[];
}

/** A login. */
export interface LoginRequest {
  /** The provider's name. */
  readonly provider: string;
  readonly idToken: string;
  /** Certificate signing request, PEM. */
  readonly csr: string;
  readonly challenge: string;
  /** The challenge of the first login, when the ID token comes from a refresh. */
  readonly origin?: string;
}

/** Why there is no login. */
export type LoginRefusal =
  | "challenge"
  | "challenge-expired"
  | "challenge-used"
  | "unknown-provider"
  | "provider-disabled"
  | "provider-unreachable"
  | `token-${IdTokenFault}`
  | "token-stale"
  | "token-replayed"
  | "no-match"
  | "user-disabled"
  | "user-ambiguous"
  | "name-taken"
  | "request";

/** A login's outcome. */
export type LoginResult =
  | {
    readonly ok: true;
    /** SPIFFE ID. */
    readonly identity: string;
    readonly certificate: string;
    /** Milliseconds since the epoch. */
    readonly notAfter: number;
    readonly network: string;
  }
  | { readonly ok: false; readonly reason: LoginRefusal };

/** Who logs out, and with which certificate. */
export interface LogoutRequest {
  /** SPIFFE ID. */
  readonly identity: string;
  readonly serial: string;
}

/** A verified token and what follows from it. */
interface Accepted {
  readonly request: LoginRequest;
  readonly remote: string;
  readonly provider: Resource<"auth-provider">;
  readonly claims: IdTokenClaims;
  readonly nonce: string;
  readonly challengeExpiresAt: number;
}

const MAX_PROVIDERS = 100;

/** Longest piece of a stranger's text in an audit entry. */
const MAX_AUDIT_TEXT = 128;

/** Logins of one controller. */
export class LoginService {
  readonly #ports: LoginPorts;

  constructor(ports: LoginPorts) {
    this.#ports = ports;
  }

  /** The providers that users may choose from. */
  async providers(): Promise<readonly PublicProvider[]> {
    const { items } = await this.#ports.store.list("auth-provider", {
      limit: MAX_PROVIDERS,
      where: { disabled: false },
    });
    return items.map(({ name, spec: { issuer, clientId, scopes } }) => ({ name, issuer, clientId, scopes }));
  }

  /** A challenge for one login. */
  challenge(): Promise<LoginChallenge> {
    return createChallenge(this.#ports.authority(), this.#ports.now());
  }

  /** Logs a user in; nothing of the request is believed before it is verified. */
  async login(request: LoginRequest, { remote }: { readonly remote: string }): Promise<LoginResult> {
    const accepted = await this.#verify(request, remote);
    if (typeof accepted === "string") return await this.#refuse(accepted, { request, remote });
    const network = await this.#ports.network();
    try {
      return await this.#ports.store.transaction(async (tx) => {
        const result = await this.#admit(tx, accepted);
        if (typeof result !== "string") return { ok: true, network, ...result };
        await tx.audit(this.#fact("denied", accepted, { reason: result }));
        return { ok: false, reason: result };
      });
    } catch (error) {
      if (!(error instanceof IdentityError && error.code.startsWith("ERR_CSR_"))) throw error;
      this.#ports.logger.debug("login_request_refused", { code: errorCode(error), remote });
      return await this.#refuse("request", { request, remote });
    }
  }

  /** Revokes the certificate that a user logs out with. */
  async logout({ identity, serial }: LogoutRequest, { remote }: { readonly remote: string }): Promise<void> {
    const { store, now, source } = this.#ports;
    await store.transaction(async (tx) => {
      await tx.revokeCertificates({ serial }, now());
      await tx.audit({
        time: now(),
        event: "login",
        who: identity,
        target: identity,
        outcome: "logout",
        detail: { serial, remote },
        source,
      });
    });
  }

  async #verify(request: LoginRequest, remote: string): Promise<Accepted | LoginRefusal> {
    const { store, authority, now } = this.#ports;
    const challenge = await verifyChallenge(request.challenge, { authority: authority(), now: now() });
    if (!challenge.ok) return challenge.reason;
    const provider = await store.find("auth-provider", request.provider);
    if (provider === undefined) return "unknown-provider";
    if (provider.spec.disabled) return "provider-disabled";
    const { origin } = request;
    if (origin !== undefined && origin.length > MAX_CHALLENGE_LENGTH) return "challenge";
    const nonces = [challenge.nonce, ...(origin === undefined ? [] : [nonceOf(origin)])];
    const verdict = await this.#verifyToken(request.idToken, { provider: provider.spec, nonces });
    if (verdict === undefined) return "provider-unreachable";
    if (!verdict.ok) return `token-${verdict.fault}`;
    // Nothing but its time ties a token without a nonce, or with that of an earlier login, to this one.
    const earliest = challenge.issuedAt / 1000 - CLOCK_TOLERANCE_SECONDS;
    if (verdict.claims.iat < earliest) return "token-stale";
    return {
      request,
      remote,
      provider,
      claims: verdict.claims,
      nonce: challenge.nonce,
      challengeExpiresAt: challenge.expiresAt,
    };
  }

  async #verifyToken(
    token: string,
    { provider, nonces }: { readonly provider: AuthProviderSpec; readonly nonces: readonly string[] },
  ): Promise<IdTokenVerdict | undefined> {
    const { issuer, clientId } = provider;
    const { providers, logger, now } = this.#ports;
    let failure: unknown;
    const keys = async (wanted: { readonly kid: string | undefined }) => {
      try {
        return await providers.keys(issuer, wanted);
      } catch (error) {
        failure = error;
        return [];
      }
    };
    const verdict = await verifyIdToken(token, { issuer, clientId, keys, nonces, now: now() });
    if (failure === undefined) return verdict;
    logger.warn("login_provider_unreachable", { issuer, code: errorCode(failure) });
    return undefined;
  }

  /** What only one of several at once may do, and only on what is so at that moment. */
  async #admit(
    tx: StoreTransaction,
    accepted: Accepted,
  ): Promise<Omit<LoginResult & { ok: true }, "ok" | "network"> | LoginRefusal> {
    const { issueUser, trustDomain, now } = this.#ports;
    const { request, claims, nonce } = accepted;
    const tokenEnd = (claims.exp + CLOCK_TOLERANCE_SECONDS) * 1000;
    if (!await tx.once(`login-challenge:${nonce}`, accepted.challengeExpiresAt)) return "challenge-used";
    if (!await tx.once(`login-token:${tokenHash(request.idToken)}`, tokenEnd + 1000)) return "token-replayed";
    const provider = await tx.get("auth-provider", accepted.provider.id);
    if (provider === undefined || provider.spec.disabled) return "provider-disabled";
    const mapped = mapClaims(claims, provider.spec);
    if (provider.spec.requireMatch && !mapped.matched) return "no-match";
    const user = await upsertUser(tx, { mapped, provider: provider.spec, trustDomain, now: now() });
    if (user === "ambiguous") return "user-ambiguous";
    if (user === "taken") return "name-taken";
    const { identity: { id, name, spec }, created } = user;
    if (spec.disabled) return "user-disabled";
    const { publicKey } = await readCsr(request.csr, parseSpiffeId(spec.spiffeId));
    const { certificate, ...record } = await issueUser({ name, publicKey });
    await tx.addCertificate({ ...record, identityId: id, spiffeId: spec.spiffeId, revokedAt: null });
    const { serial, notAfter } = record;
    const { derivedAttributes, adminRole } = spec;
    const detail = { identity: spec.spiffeId, serial, notAfter, created, derivedAttributes, adminRole };
    await tx.audit(this.#fact("ok", accepted, detail));
    return { identity: spec.spiffeId, certificate, notAfter };
  }

  async #refuse(
    reason: LoginRefusal,
    { request, remote }: { readonly request: LoginRequest; readonly remote: string },
  ): Promise<LoginResult> {
    await this.#ports.store.appendAudit([this.#fact("denied", { request, remote }, { reason })]);
    return { ok: false, reason };
  }

  #fact(
    outcome: "ok" | "denied",
    { request, remote, claims }: Pick<Accepted, "request" | "remote"> & Partial<Pick<Accepted, "claims">>,
    detail: Readonly<Record<string, unknown>>,
  ) {
    return {
      time: this.#ports.now(),
      event: "login" as const,
      who: claims === undefined ? "unknown" : `oidc:${claims.iss}|${claims.sub}`,
      target: `auth-provider/${request.provider.slice(0, MAX_AUDIT_TEXT)}`,
      outcome,
      detail: { ...detail, remote },
      source: this.#ports.source,
    };
  }
}

/** What was signed, without the signature: some algorithms let anybody respell that. */
function tokenHash(token: string): string {
  return createHash("sha256").update(token.slice(0, token.lastIndexOf("."))).digest("hex");
}
