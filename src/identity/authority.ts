/**
 * The authority's key: signs views. Its public half is pinned in every identity file.
 */

import type { JWK } from "jose";

/** A key that signs views. */
export interface Authority {
  readonly privateKey: CryptoKey;
  /** The public half, with its RFC 7638 thumbprint as `kid`. */
  readonly publicJwk: JWK;
  readonly kid: string;
}

/** Makes a new authority; `privateJwk` is a secret to be stored by `writeSecretFile`. */
export function createAuthority(): Promise<Authority & { readonly privateJwk: JWK }> {
  return Promise.reject(new Error("Not written yet"));
}

/** Reads an authority's private key file (JWK). */
export function loadAuthority(_path: string): Promise<Authority> {
  return Promise.reject(new Error("Not written yet"));
}
