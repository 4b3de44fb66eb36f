/**
 * The identity file: one JSON file with a node's certificate, private key and what it trusts.
 */

import type { JWK } from "jose";
import type { SpiffeId } from "./spiffe_id.ts";

/** What an identity trusts. */
export interface Trust {
  readonly domain: string;
  /** CA certificates, PEM. */
  readonly roots: readonly string[];
  /** Public keys that may sign views. */
  readonly authorities: readonly JWK[];
}

/** A loaded identity. */
export interface Identity {
  readonly id: SpiffeId;
  readonly certificatePem: string;
  readonly chainDer: readonly Uint8Array[];
  readonly privateKeyPem: string;
  readonly privateKey: CryptoKey;
  /** Milliseconds since the epoch. */
  readonly notAfter: number;
  readonly trust: Trust;
}

/** Reads and checks an identity file. */
export function loadIdentity(_path: string, _options: { readonly now?: number } = {}): Promise<Identity> {
  return Promise.reject(new Error("Not written yet"));
}

/** Checks the text of an identity file; `source` names it in errors. */
export function parseIdentity(
  _text: string,
  _options: { readonly source: string; readonly now: number },
): Promise<Identity> {
  return Promise.reject(new Error("Not written yet"));
}

/** Writes the text of an identity file. */
export function formatIdentity(
  _parts: {
    readonly id: SpiffeId;
    readonly certificatePem: string;
    readonly privateKeyPem: string;
    readonly trust: Trust;
  },
): string {
  throw new Error("Not written yet");
}
