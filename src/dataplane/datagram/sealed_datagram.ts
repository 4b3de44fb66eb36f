/**
 * Sealed datagrams: one payload each, authenticated by ChaCha20-Poly1305 under keys of their own, in any order.
 *
 * ```text
 *  0             8                             n
 * +-------------+-----------------------------+----------+
 * | counter     | ciphertext                  | tag      |
 * | u64         | n - 8 bytes, as the payload | 16 bytes |
 * +-------------+-----------------------------+----------+
 * ```
 *
 * The counter is big-endian, rises from 0 in each direction, and makes the nonce as a record's sequence does. It needs no
 * protection of its own: any other counter yields another nonce.
 */

import { DATAGRAM_HEADROOM } from "../carrier.ts";
import { DataplaneError } from "../errors.ts";
import type { DirectionKey } from "../flow_keys.ts";
import { Nonce } from "../nonce.ts";
import { ReplayWindow } from "../replay_window.ts";
import { type CipherKeys, type DatagramCipher, NODE_CIPHER, TAG_LENGTH } from "./datagram_cipher.ts";

/** Bytes that sealing adds to a payload: counter and tag. */
export const SEALED_DATAGRAM_OVERHEAD = 24;

/** Bytes in front of a sealed datagram that whoever sends it may overwrite: a context ID and what every port may. */
export const SEALED_DATAGRAM_HEADROOM = DATAGRAM_HEADROOM + 8;

/** Datagrams per direction, far above need: keeps the upper half of every counter zero. */
export const MAX_COUNTER = 2 ** 32;

const COUNTER_LENGTH = 8;
const BODY = SEALED_DATAGRAM_HEADROOM + COUNTER_LENGTH;
const SMALLEST_BUFFER = 2_048;

/** Seals one direction of one flow. */
export class DatagramSealer {
  readonly #cipher: DatagramCipher;
  readonly #nonce: Nonce;
  readonly #keys: CipherKeys;
  #buffer = new Uint8Array(0);
  #counter: number;

  /** Counts from `first`. */
  constructor(
    key: DirectionKey,
    options: { readonly first?: number; readonly cipher?: DatagramCipher } = {},
  ) {
    const { first = 0, cipher = NODE_CIPHER } = options;
    this.#cipher = cipher;
    this.#nonce = new Nonce(key.nonceBase);
    this.#keys = { key: key.key, nonce: this.#nonce.at(first) };
    this.#counter = first;
  }

  /** The sealed datagram begins {@linkcode SEALED_DATAGRAM_HEADROOM} bytes in; valid until the next `seal()`. */
  get buffer(): Uint8Array<ArrayBuffer> {
    return this.#buffer;
  }

  /** Seals `payload` into {@linkcode buffer}; returns where the sealed datagram ends there. */
  seal(payload: Uint8Array): number {
    const counter = this.#counter;
    // A nonce must never serve twice, so a direction ends rather than wrap around.
    if (counter >= MAX_COUNTER) throw new DataplaneError("ERR_SESSION_CLOSED", "Flow used up its datagrams");
    this.#counter = counter + 1;
    const end = BODY + payload.length + TAG_LENGTH;
    if (this.#buffer.length < end) {
      this.#buffer = new Uint8Array(Math.max(SMALLEST_BUFFER, 2 ** Math.ceil(Math.log2(end))));
    }
    const target = this.#buffer;
    const at = SEALED_DATAGRAM_HEADROOM;
    target[at + 4] = counter >>> 24;
    target[at + 5] = counter >>> 16;
    target[at + 6] = counter >>> 8;
    target[at + 7] = counter;
    this.#nonce.at(counter);
    this.#cipher.seal(this.#keys, payload, target.subarray(BODY, end));
    return end;
  }
}

/** Why a datagram was not opened. */
export type DatagramFault = "malformed" | "replayed" | "forged";

/** Opens one direction of one flow. */
export class DatagramOpener {
  readonly #cipher: DatagramCipher;
  readonly #nonce: Nonce;
  readonly #keys: CipherKeys;
  readonly #window = new ReplayWindow();

  constructor(key: DirectionKey, { cipher = NODE_CIPHER }: { readonly cipher?: DatagramCipher } = {}) {
    this.#cipher = cipher;
    this.#nonce = new Nonce(key.nonceBase);
    this.#keys = { key: key.key, nonce: this.#nonce.at(0) };
  }

  /** The payload of a sealed datagram, valid until the next, or why there is none. A forged one leaves no trace here. */
  open(sealed: Uint8Array): Uint8Array<ArrayBuffer> | DatagramFault {
    if (sealed.length < COUNTER_LENGTH + TAG_LENGTH) return "malformed";
    if ((sealed[0]! | sealed[1]! | sealed[2]! | sealed[3]!) !== 0) return "malformed";
    const counter = (sealed[4]! << 24 | sealed[5]! << 16 | sealed[6]! << 8 | sealed[7]!) >>> 0;
    if (!this.#window.isFresh(counter)) return "replayed";
    this.#nonce.at(counter);
    const payload = this.#cipher.open(this.#keys, sealed.subarray(COUNTER_LENGTH));
    if (payload === undefined) return "forged";
    this.#window.accept(counter);
    return payload;
  }
}
