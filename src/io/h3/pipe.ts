/**
 * What HTTP/3 framing needs of a transport stream, whatever it is: a QUIC stream or a TLS connection.
 */

/** A two-way transport stream. Failures reject with `ChannelResetError`. */
export interface Pipe {
  /**
   * Resolves with the next bytes (never empty), in a buffer with headroom, or with `null` at the peer's clean
   * end. The view of the call before is invalid from now on. One call at a time.
   */
  next(): Promise<Uint8Array<ArrayBuffer> | null>;
  /** Writes all of `bytes`; calls may overlap and keep their order. */
  write(bytes: Uint8Array): Promise<void>;
  /** Ends our direction cleanly. Idempotent. */
  closeWrite(): Promise<void>;
  /** Tells the peer that nothing more will be read. Idempotent, never throws. */
  cancelRead(): void;
  /** Gives both directions up as abruptly as the transport can. Idempotent, never throws. */
  abort(): void;
}
