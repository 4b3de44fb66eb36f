/**
 * The one shape of every two-way byte stream in Ginnel: a TCP or unix socket, a QUIC stream, a TLS
 * carrier, an HTTP/3 request body, a sealed flow. Adapters in `io/` produce it, `dataplane/` joins it.
 */

/** Bytes before a view returned by {@linkcode ByteChannel.read} that its reader may overwrite. */
export const HEADROOM = 32;

/** A two-way byte stream with half-close and back-pressure. */
export interface ByteChannel {
  /**
   * Resolves with the next bytes (never empty), or `null` when the peer ended its direction cleanly.
   * The view is valid only until the next `read()`; at least {@linkcode HEADROOM} bytes of the same
   * buffer before it belong to the caller, so that a frame header can be put in front without copying.
   * Rejects with {@linkcode ChannelResetError} when the peer reset the stream or the path broke.
   * One read at a time.
   */
  read(): Promise<Uint8Array<ArrayBuffer> | null>;
  /**
   * Hands over all of `bytes`; resolves once the transport took them (back-pressure), after which the
   * caller may reuse the buffer. One write at a time.
   */
  write(bytes: Uint8Array): Promise<void>;
  /** Ends our direction cleanly (FIN). Idempotent. */
  closeWrite(): Promise<void>;
  /** Tears both directions down as abruptly as the transport can (RST). Idempotent, never throws. */
  abort(reason?: unknown): void;
}

/** The stream ended without its clean end: a reset by the peer, a lost connection, an abort of ours. */
export class ChannelResetError extends Error {
  readonly code = "ERR_CHANNEL_RESET";

  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = "ChannelResetError";
  }
}
