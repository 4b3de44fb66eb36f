/**
 * Whom an end of a session trusts, and how it verifies its peer: TLS checks signatures and dates but knows nothing of
 * SPIFFE.
 */

import { errorMessage } from "../base/errors.ts";
import { type CertificateReference, type VerifiedChain, verifyChain } from "../identity/chain.ts";
import { DataplaneError } from "./errors.ts";

/** Which end of a session we are. */
export type SessionRole = "agent" | "connector";

/** Whom a session trusts. */
export interface SessionTrust {
  /** The network's root certificates, PEM. */
  readonly roots: readonly string[];
  /** The network's own trust domain; default: the one the roots were made for. */
  readonly domain?: string;
  /** Foreign trust domains whose workloads may be at the other end. */
  readonly foreign?: readonly { readonly domain: string; readonly roots: readonly string[] }[];
  /** Asked about the peer's certificate. */
  readonly isRevoked?: (certificate: CertificateReference) => boolean;
}

/** Whom to trust now. */
export function trustOf(options: SessionTrust & { readonly trust?: () => SessionTrust }): SessionTrust {
  return options.trust?.() ?? options;
}

/** Verifies what a peer showed; rejects with `ERR_SESSION_UNTRUSTED`. */
export async function verifyPeer(
  chain: readonly Uint8Array[],
  options: { readonly trust: SessionTrust; readonly role: SessionRole; readonly now: number },
): Promise<VerifiedChain> {
  try {
    return await verifyChain({ chain, now: options.now, ...chainTrust(options.trust, options.role) });
  } catch (cause) {
    throw new DataplaneError("ERR_SESSION_UNTRUSTED", `Peer refused: ${errorMessage(cause)}`, { cause });
  }
}

/** How the end in `role` verifies what its peer shows. */
export function chainTrust(trust: SessionTrust, role: SessionRole) {
  const { roots, domain, foreign, isRevoked } = trust;
  return {
    roots,
    purpose: role === "agent" ? "server" as const : "client" as const,
    ...(domain === undefined ? {} : { trustDomain: domain }),
    ...(foreign === undefined ? {} : { foreign }),
    ...(isRevoked === undefined ? {} : { isRevoked }),
  };
}
