/** Key pairs of identities: ECDSA P-256, as every certificate of the network has. */

import { encodePem } from "./pem.ts";

/** The algorithm of every identity's key, as WebCrypto names it. */
export const KEY_ALGORITHM = { name: "ECDSA", namedCurve: "P-256" } as const;

/** Makes a new key pair, extractable so that it can be kept in a file. */
export function generateKeyPair(): Promise<CryptoKeyPair> {
  return crypto.subtle.generateKey(KEY_ALGORITHM, true, ["sign", "verify"]);
}

/** Writes a private key as PKCS #8 PEM. */
export async function exportPrivateKey(key: CryptoKey): Promise<string> {
  return encodePem("PRIVATE KEY", new Uint8Array(await crypto.subtle.exportKey("pkcs8", key)));
}
