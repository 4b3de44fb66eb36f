/**
 * The network document: what every node must know of the network besides its own rights, signed by the authority: CAs,
 * authorities, controllers, relays, foreign trust domains and revoked certificates. Relays only pass it on.
 */

import { importJWK, type JWK } from "jose";
import { z } from "zod";
import { type Authority, AuthorityJwk } from "./authority.ts";
import { parseCertificatesPem } from "./certificate.ts";
import { IdentityError, type NetworkDocumentErrorCode } from "./errors.ts";
import {
  asRefusal,
  JwsError,
  type JwsFaults,
  readJwsHeader,
  readJwsPayload,
  signJws,
  verifyJws,
} from "./jws.ts";

/** Largest signed network document, in bytes. */
export const MAX_NETWORK_DOCUMENT_LENGTH = 1 << 20;

/** Most CAs, and most authorities, that a node trusts at once. */
export const MAX_TRUSTED = 16;

const Pem = z.string().min(1).max(16_384);
const Name = z.string().min(1).max(255);

/** A controller as nodes reach it: its name makes its TLS server name, the audience of proofs for it. */
const Controller = z.object({ name: Name, url: z.string().startsWith("https://").max(2048) });

/** A relay as nodes reach it; `address` is `host:port`. */
const Relay = z.object({ name: Name, address: z.string().min(1).max(270) });

/** A foreign trust domain and the CAs that may vouch for its identities. */
const ForeignDomain = z.object({ name: Name, roots: z.array(Pem).min(1).max(MAX_TRUSTED).readonly() });

/** What a node keeps of the network document, besides whom it trusts. */
export const NodeNetworkSchema = z.object({
  rev: z.int().nonnegative(),
  iat: z.int().nonnegative(),
  controllers: z.array(Controller).max(64).readonly(),
  relays: z.array(Relay).max(1024).readonly(),
  trustDomains: z.array(ForeignDomain).max(64).readonly(),
  /** Serial numbers, upper-case hexadecimal. */
  revoked: z.array(z.string().regex(/^[0-9A-F]{1,64}$/)).max(16_384).readonly(),
});

const NetworkDocumentSchema = NodeNetworkSchema.extend({
  trustDomain: Name,
  roots: z.array(Pem).min(1).max(MAX_TRUSTED).readonly(),
  authorities: z.array(AuthorityJwk).min(1).max(MAX_TRUSTED).readonly(),
});

/** What a node keeps of the network document; `iat` is in seconds since the epoch and orders documents of one `rev`. */
export type NodeNetwork = Readonly<z.output<typeof NodeNetworkSchema>>;

/** The network as of one revision; the CA that issues stands first among `roots`. */
export interface NetworkDocument extends NodeNetwork {
  readonly trustDomain: string;
  /** CA certificates, PEM. */
  readonly roots: readonly string[];
  /** Public keys that may sign views and network documents. */
  readonly authorities: readonly JWK[];
}

/** How to judge a network document. */
export interface VerifyNetworkDocumentOptions {
  /** Public keys that may sign it. */
  readonly authorities: readonly JWK[];
  readonly trustDomain: string;
  /** Documents of an older revision are refused. */
  readonly minRev?: number;
  /** Documents of revision `minRev` that were made before this time (their `iat`) are refused. */
  readonly minIat?: number;
}

/** The `typ` of a network document: no other token of the network can pass for one. */
const NETWORK_DOCUMENT_TYPE = "ginnel-network+jwt";

const NetworkHeader = z.object({ typ: z.literal(NETWORK_DOCUMENT_TYPE), kid: z.string() });

/** Signs a network document with the authority's key. */
export async function signNetworkDocument(authority: Authority, document: NetworkDocument): Promise<string> {
  const jws = await signJws(NetworkDocumentSchema.parse(document), {
    key: authority.privateKey,
    header: { typ: NETWORK_DOCUMENT_TYPE, kid: authority.kid },
  });
  if (jws.length > MAX_NETWORK_DOCUMENT_LENGTH) throw tooLarge(jws.length);
  return jws;
}

/** Verifies a signed network document; throws an `IdentityError` with an `ERR_NETWORK_DOCUMENT_*` code. */
export async function verifyNetworkDocument(
  jws: string,
  options: VerifyNetworkDocumentOptions,
): Promise<NetworkDocument> {
  const { authorities, trustDomain, minRev = 0, minIat = 0 } = options;
  if (jws.length > MAX_NETWORK_DOCUMENT_LENGTH) throw tooLarge(jws.length);
  const document = await readDocument(jws, authorities);
  if (document.trustDomain !== trustDomain) {
    throw refuse("ERR_NETWORK_DOCUMENT_TRUST_DOMAIN", "it is of another network");
  }
  if (document.rev < minRev || (document.rev === minRev && document.iat < minIat)) {
    throw refuse("ERR_NETWORK_DOCUMENT_OUTDATED", `its revision ${document.rev} is older than the known one`);
  }
  return document;
}

/**
 * Reads the first network document of a device, over a connection that is verified: the authorities are those that it
 * names, one of which must have signed it. Whether they may be believed is for the caller to find out.
 */
export async function introduceNetworkDocument(
  jws: string,
  options: { readonly trustDomain: string },
): Promise<NetworkDocument> {
  if (jws.length > MAX_NETWORK_DOCUMENT_LENGTH) throw tooLarge(jws.length);
  let stated: z.output<typeof NetworkDocumentSchema>;
  try {
    readJwsHeader(jws);
    stated = NetworkDocumentSchema.parse(readJwsPayload(jws));
  } catch (error) {
    const fault = error instanceof z.ZodError ? new JwsError("malformed", { cause: error }) : error;
    throw asRefusal(fault, FAULTS, refuse);
  }
  return await verifyNetworkDocument(jws, { ...options, authorities: stated.authorities as JWK[] });
}

/** The part of a network document that a node keeps beside its trust. */
export function toNodeNetwork(document: NetworkDocument): NodeNetwork {
  const { rev, iat, controllers, relays, trustDomains, revoked } = document;
  return { rev, iat, controllers, relays, trustDomains, revoked };
}

async function readDocument(jws: string, authorities: readonly JWK[]): Promise<NetworkDocument> {
  try {
    const header = NetworkHeader.safeParse(readJwsHeader(jws));
    if (!header.success) throw new JwsError("malformed", { cause: header.error });
    const jwk = authorities.find((authority) => authority.kid === header.data.kid);
    if (jwk === undefined) {
      throw refuse("ERR_NETWORK_DOCUMENT_AUTHORITY", "no trusted authority has the key that it names");
    }
    const payload = await verifyJws(jws, await importJWK(jwk, "ES256") as CryptoKey);
    const document = NetworkDocumentSchema.safeParse(payload);
    if (!document.success) throw new JwsError("malformed", { cause: document.error });
    assertUsable(document.data);
    return document.data as NetworkDocument;
  } catch (error) {
    throw asRefusal(error, FAULTS, refuse);
  }
}

/** One root that cannot be read would make a node refuse every peer, so such a document is refused instead. */
function assertUsable(document: z.output<typeof NetworkDocumentSchema>): void {
  let isUsable = document.trustDomains.every(({ name }) => name !== document.trustDomain);
  try {
    for (const root of document.roots) isUsable &&= parseCertificatesPem(root).every(({ isCa }) => isCa);
  } catch (cause) {
    throw new JwsError("malformed", { cause });
  }
  if (!isUsable) throw new JwsError("malformed");
}

const FAULTS: JwsFaults<NetworkDocumentErrorCode> = {
  malformed: ["ERR_NETWORK_DOCUMENT_MALFORMED", "it is not a network document"],
  algorithm: ["ERR_NETWORK_DOCUMENT_ALGORITHM", "its algorithm is not ES256"],
  signature: ["ERR_NETWORK_DOCUMENT_SIGNATURE", "the authority's key did not sign it"],
};

function tooLarge(length: number): IdentityError {
  const reason = `it has ${length} characters, more than ${MAX_NETWORK_DOCUMENT_LENGTH}`;
  return refuse("ERR_NETWORK_DOCUMENT_TOO_LARGE", reason);
}

function refuse(code: NetworkDocumentErrorCode, reason: string): IdentityError {
  return new IdentityError(code, `Cannot accept the network document: ${reason}`);
}
