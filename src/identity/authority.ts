/**
 * The authority's key: signs views. Its public half is pinned in every identity file.
 */

import { calculateJwkThumbprint, exportJWK, generateKeyPair, importJWK, type JWK } from "jose";
import { z } from "zod";
import { utf8 } from "../base/bytes.ts";
import { IdentityError } from "./errors.ts";
import { readSecretFile } from "./secret_file.ts";

/** A key that signs views. */
export interface Authority {
  readonly privateKey: CryptoKey;
  /** The public half, with its RFC 7638 thumbprint as `kid`. */
  readonly publicJwk: JWK;
  readonly kid: string;
}

/** A new authority; `privateJwk` is a secret to be stored by `writeSecretFile`. */
export interface NewAuthority extends Authority {
  readonly privateJwk: JWK;
}

const ECDSA_SHA256 = { name: "ECDSA", hash: "SHA-256" };

const COORDINATE = z.string().regex(/^[A-Za-z0-9_-]{43}$/, "must be 32 bytes in base64url");
const PUBLIC_MEMBERS = {
  kty: z.literal("EC"),
  crv: z.literal("P-256"),
  x: COORDINATE,
  y: COORDINATE,
  kid: z.string().max(128).optional(),
  alg: z.literal("ES256").optional(),
  use: z.literal("sig").optional(),
};

/** The public key of an authority: unknown members, a private one above all, are refused. */
export const AuthorityJwk = z.strictObject(PUBLIC_MEMBERS);

const PrivateAuthorityJwk = z.strictObject({ ...PUBLIC_MEMBERS, d: COORDINATE });

/** Makes a new authority. */
export async function createAuthority(): Promise<NewAuthority> {
  const { privateKey } = await generateKeyPair("ES256", { extractable: true });
  const { kty, crv, x, y, d } = await exportJWK(privateKey);
  const privateJwk = { kty: kty!, crv: crv!, x: x!, y: y!, d: d!, alg: "ES256" };
  return { ...await toAuthority(privateJwk), privateJwk };
}

/** Reads an authority's private key file (JWK), which only its owner may be able to read. */
export async function loadAuthority(path: string): Promise<Authority> {
  return await parseAuthority(await readSecretFile(path), { source: path });
}

/** Reads an authority's private JWK; `source` names it in errors. */
export async function parseAuthority(text: string, options: { readonly source: string }): Promise<Authority> {
  const { source } = options;
  let authority: Authority;
  let isMatch: boolean;
  try {
    authority = await toAuthority(PrivateAuthorityJwk.parse(JSON.parse(text)) as JWK);
    isMatch = await halvesMatch(authority);
  } catch {
    // The cause is dropped on purpose: a parser's message may quote the key.
    throw new IdentityError(
      "ERR_IDENTITY_FILE_CORRUPT",
      `Cannot use ${source}: it is not the private JWK of an authority (EC P-256)`,
    );
  }
  if (!isMatch) {
    throw new IdentityError(
      "ERR_IDENTITY_KEY_MISMATCH",
      `Cannot use ${source}: its private half is not that of x and y`,
    );
  }
  return authority;
}

async function toAuthority(jwk: JWK): Promise<Authority> {
  const kid = await calculateJwkThumbprint(jwk);
  const publicJwk = { kty: "EC", crv: "P-256", x: jwk.x!, y: jwk.y!, alg: "ES256", use: "sig", kid };
  const privateKey = await importJWK(jwk, "ES256", { extractable: false }) as CryptoKey;
  return { privateKey, publicJwk, kid };
}

/** Importing a JWK does not compare its halves, so a signature has to show that they belong together. */
async function halvesMatch(authority: Authority): Promise<boolean> {
  const publicKey = await importJWK(authority.publicJwk, "ES256") as CryptoKey;
  const probe = utf8("ginnel");
  const signature = await crypto.subtle.sign(ECDSA_SHA256, authority.privateKey, probe);
  return await crypto.subtle.verify(ECDSA_SHA256, publicKey, signature, probe);
}
