/** SHA-256 at once, where waiting for the asynchronous one of WebCrypto would break a transaction or a chain apart. */

import { createHash } from "node:crypto";

/** SHA-256 of text as UTF-8, in lower-case hexadecimal. */
export function sha256Hex(text: string): string {
  return createHash("sha256").update(text, "utf8").digest("hex");
}
