/** ChaCha20-Poly1305 as datagrams need it: a whole small message at once, tens of thousands a second. */

import { createCipheriv, createDecipheriv } from "node:crypto";

/** Bytes that authenticate a message, behind its ciphertext. */
export const TAG_LENGTH = 16;

/** What one message is sealed with: 32 bytes, and 12 that never serve twice with them. */
export interface CipherKeys {
  readonly key: Uint8Array;
  /** May be rewritten in place between messages. */
  readonly nonce: Uint8Array;
}

/** An implementation of RFC 8439 §2.8 without additional data. */
export interface DatagramCipher {
  /** Writes ciphertext and tag to `target`, which is just as long. */
  seal(keys: CipherKeys, payload: Uint8Array, target: Uint8Array): void;
  /** The payload, valid until the next call; `undefined` where the tag is wrong. `sealed` has at least a tag's length. */
  open(keys: CipherKeys, sealed: Uint8Array): Uint8Array<ArrayBuffer> | undefined;
}

const ALGORITHM = "chacha20-poly1305";
const OPTIONS = { authTagLength: TAG_LENGTH };

/**
 * The runtime's own. Of the 7 to 10 µs for 1,200 bytes (either way; one shared core, x86_64, Deno 2.9.5) two thirds are
 * the objects that it makes around each message; `test/bench/micro/datagram_bench.ts`.
 */
export const NODE_CIPHER: DatagramCipher = {
  seal({ key, nonce }, payload, target) {
    const cipher = createCipheriv(ALGORITHM, key, nonce, OPTIONS);
    target.set(cipher.update(payload));
    cipher.final();
    target.set(cipher.getAuthTag(), payload.length);
  },

  open({ key, nonce }, sealed) {
    const tag = sealed.length - TAG_LENGTH;
    const decipher = createDecipheriv(ALGORITHM, key, nonce, OPTIONS);
    decipher.setAuthTag(sealed.subarray(tag));
    let payload;
    try {
      payload = decipher.update(sealed.subarray(0, tag));
      decipher.final();
    } catch {
      return undefined;
    }
    // No Buffer: its slice() would not copy.
    return new Uint8Array(payload.buffer as ArrayBuffer, payload.byteOffset, payload.length);
  },
};
