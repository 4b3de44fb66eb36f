/** The text of API tokens, `gnl_<id>_<secret>`, and what is kept of them. */

import { createHash, timingSafeEqual } from "node:crypto";

/** Bytes of a secret: nobody guesses it, so a plain hash keeps it. */
const SECRET_LENGTH = 32;

const TOKEN = /^gnl_([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})_([A-Za-z0-9_-]{43})$/;

/** What a token's text says. */
export interface ApiTokenText {
  readonly id: string;
  readonly secret: string;
}

/** Makes a secret. */
export function makeSecret(): string {
  return crypto.getRandomValues(new Uint8Array(SECRET_LENGTH))
    .toBase64({ alphabet: "base64url", omitPadding: true });
}

/** What is stored of a secret. */
export function hashSecret(secret: string): string {
  return createHash("sha256").update(secret).digest("hex");
}

/** The text of a token. */
export function formatApiToken({ id, secret }: ApiTokenText): string {
  return `gnl_${id}_${secret}`;
}

/** Reads a token's text; undefined for anything else. */
export function parseApiToken(text: string): ApiTokenText | undefined {
  const match = TOKEN.exec(text);
  return match === null ? undefined : { id: match[1]!, secret: match[2]! };
}

/** Whether a secret is the one whose hash is stored; the time it takes says nothing of either. */
export function isSecret(secret: string, storedHash: string): boolean {
  const actual = createHash("sha256").update(secret).digest();
  const stored = Uint8Array.fromHex(/^[0-9a-f]{64}$/.test(storedHash) ? storedHash : "00".repeat(32));
  return timingSafeEqual(actual, stored);
}
