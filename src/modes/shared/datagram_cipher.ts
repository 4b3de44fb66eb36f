/** Which implementation seals datagrams in this process: the machine's OpenSSL where it proves to be right, else the runtime's. */

import { type DatagramCipher, NODE_CIPHER, TAG_LENGTH } from "../../dataplane/datagram/datagram_cipher.ts";
import { openLibcrypto } from "../../io/crypto/libcrypto.ts";

let chosen: DatagramCipher | undefined;

/** The one to use; looked for once. */
export function datagramCipher(): DatagramCipher {
  return chosen ??= proven(openLibcrypto()) ?? NODE_CIPHER;
}

/** The cipher, if it does what the runtime's does, and tells altered messages. */
export function proven(cipher: DatagramCipher | undefined): DatagramCipher | undefined {
  if (cipher === undefined) return undefined;
  const keys = {
    key: crypto.getRandomValues(new Uint8Array(32)),
    nonce: crypto.getRandomValues(new Uint8Array(12)),
  };
  try {
    for (const size of [0, 1, 63, 64, 1_200]) {
      const payload = crypto.getRandomValues(new Uint8Array(size));
      const [sealed, expected] = [new Uint8Array(size + TAG_LENGTH), new Uint8Array(size + TAG_LENGTH)];
      cipher.seal(keys, payload, sealed);
      NODE_CIPHER.seal(keys, payload, expected);
      if (!isSame(sealed, expected) || !isSame(cipher.open(keys, sealed), payload)) return undefined;
      sealed[0]! ^= 1;
      if (cipher.open(keys, sealed) !== undefined) return undefined;
    }
  } catch {
    return undefined;
  }
  return cipher;
}

function isSame(a: Uint8Array | undefined, b: Uint8Array): boolean {
  return a?.length === b.length && a.every((byte, index) => byte === b[index]);
}
