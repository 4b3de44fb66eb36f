/** Who calls the API: the owner of a token, a node or user whose identity has a role, or an OpenID provider's user. */

import { errorCode } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { Principal } from "../../core/network/access.ts";
import type { AdminRole, Resource } from "../../core/network/resources.ts";
import { IdentityError } from "../../identity/errors.ts";
import { readJwsHeader } from "../../identity/jws.ts";
import { PROOF_TYPE, type VerifiedProof } from "../../identity/proof.ts";
import type { Store } from "../store.ts";
import { isSecret, parseApiToken } from "./api_token.ts";

/** What authentication needs. */
export interface AdminAuthOptions {
  readonly store: Store;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  readonly logger: Logger;
  /** Verifies a proof made for this controller; throws an `IdentityError`. */
  readonly verifyProof: (token: string) => Promise<VerifiedProof>;
  /** Who an ID token's bearer is at the API; absent: nobody. */
  readonly verifyOidcBearer?: (
    token: string,
  ) => Promise<{ readonly who: string; readonly role: AdminRole } | undefined>;
}

/** Longest bearer token looked at, in characters: ID tokens may carry many claims. */
const MAX_BEARER = 16_384;

/** A secret no token has, so that an unknown id takes as long to refuse as a wrong secret. */
const NO_HASH = "";

/** Authenticates callers of the API. */
export class AdminAuth {
  readonly #options: AdminAuthOptions;

  constructor(options: AdminAuthOptions) {
    this.#options = options;
  }

  /** Who shows this token; undefined: nobody with rights at the API. */
  async authenticate(bearer: string): Promise<Principal | undefined> {
    if (bearer.length > MAX_BEARER) return undefined;
    if (bearer.startsWith("gnl_")) return await this.#byToken(bearer);
    if (isProof(bearer)) return await this.#byProof(bearer);
    return await this.#byProvider(bearer);
  }

  async #byToken(bearer: string): Promise<Principal | undefined> {
    const { store, now } = this.#options;
    const text = parseApiToken(bearer);
    if (text === undefined) return undefined;
    const token = await store.get("api-token", text.id);
    const isRight = isSecret(text.secret, token?.spec.secretHash ?? NO_HASH);
    if (token === undefined || !isRight) return undefined;
    const { role, scopes, expiresAt, bootstrap } = token.spec;
    if (expiresAt !== null && expiresAt <= now()) return undefined;
    if (bootstrap && await this.#isSuperseded(token)) return undefined;
    return { who: `token:${token.id}`, role, scopes };
  }

  /** The first token ends when an administrator has enrolled: until then nobody else could let that one in. */
  async #isSuperseded(token: Resource<"api-token">): Promise<boolean> {
    const { store, now, logger } = this.#options;
    const { items } = await store.list("identity", {
      limit: 100,
      where: { adminRole: "admin", disabled: false },
    });
    for (const { id } of items) {
      const held = await store.certificates(id);
      if (!held.some(({ revokedAt, notAfter }) => revokedAt === null && notAfter > now())) continue;
      // For good: it must not come back when that administrator goes.
      await store.transaction((tx) => tx.remove("api-token", token.id));
      logger.info("bootstrap_token_ended");
      return true;
    }
    return false;
  }

  async #byProof(bearer: string): Promise<Principal | undefined> {
    const { store, verifyProof, logger } = this.#options;
    let uri: string;
    try {
      uri = (await verifyProof(bearer)).id.uri;
    } catch (error) {
      if (!(error instanceof IdentityError)) throw error;
      logger.debug("admin_proof_refused", { code: error.code });
      return undefined;
    }
    const identity = await store.find("identity", uri);
    if (identity === undefined || identity.spec.spiffeId !== uri || identity.spec.disabled) return undefined;
    const { adminRole, type } = identity.spec;
    if (adminRole !== null) return { who: uri, role: adminRole, scopes: [] };
    return type === "relay" ? { who: uri, role: "relay", scopes: [] } : undefined;
  }

  async #byProvider(bearer: string): Promise<Principal | undefined> {
    const { verifyOidcBearer, logger } = this.#options;
    try {
      const found = await verifyOidcBearer?.(bearer);
      return found === undefined ? undefined : { ...found, scopes: [] };
    } catch (error) {
      // A provider that cannot be asked lets nobody in and must not take the API down.
      logger.warn("admin_oidc_unavailable", { code: errorCode(error) });
      return undefined;
    }
  }
}

function isProof(token: string): boolean {
  try {
    return (readJwsHeader(token) as { readonly typ?: unknown }).typ === PROOF_TYPE;
  } catch {
    return false;
  }
}
