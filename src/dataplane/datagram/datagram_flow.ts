/**
 * An open flow of datagrams, seen from either end: UDP payloads or echo messages, whole or not at all, in any order. No
 * promise and no object per datagram.
 */

/** One end of a datagram flow. */
export interface DatagramFlow {
  /**
   * Bytes of the largest payload that crosses as a datagram now; larger ones, up to {@linkcode MAX_DATAGRAM}, cross on
   * the flow's stream. It may change at any time.
   */
  readonly maxPayload: number;
  /** Seals and sends `bytes[start, end)`, which may be used again at once; false when it was dropped. */
  send(bytes: Uint8Array<ArrayBuffer>, start: number, end: number): boolean;
  /** Resolves when {@linkcode send} takes datagrams again, or the flow has ended; at once when it does now. */
  writable(): Promise<void>;
  /** Hands every payload that comes to `handler`; it is valid until the handler returns. Before, they are dropped. */
  receive(handler: (payload: Uint8Array<ArrayBuffer>) => void): void;
  /** Ends the flow for both ends. Idempotent. */
  close(reason?: unknown): void;
  /** Resolves when the flow has ended, with why if it did not end by {@linkcode close}; never rejects. */
  readonly closed: Promise<Error | undefined>;
}

/** Bytes of the largest payload at all: what one UDP datagram over IPv4 holds. */
export const MAX_DATAGRAM = 65_507;
