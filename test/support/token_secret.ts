/** The part of a token that must be in no log: whoever has it needs no more. */

import assert from "node:assert/strict";

/**
 * The secret of an API token (`gnl_<id>_<secret>`), the signature of a JWT, or all of anything else. Secrets are in base64url,
 * so they may hold the `_` that stands before them.
 */
export function tokenSecret(token: string): string {
  const secret = token.startsWith("gnl_") ? token.slice(-43) : token.split(".").at(-1)!;
  assert.ok(secret.length >= 20, "too short to be looked for");
  return secret;
}
