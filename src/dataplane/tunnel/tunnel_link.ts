/**
 * What hub and client ask of the connection that carries a tunnel's packets: an endpoint of a connect-ip request, or a
 * test.
 */

/** Carries bare IP packets to the other end of a tunnel. */
export interface TunnelLink {
  /** Bytes of the largest packet that crosses in one datagram now; it may change at any time. */
  readonly mtu: number;
  /**
   * Sends the packet `buffer[start, end)`, overwriting the `PACKET_HEADROOM` bytes in front of it; the buffer may be used
   * again at once. Returns false, having dropped the packet, while too many wait or when the link has ended.
   */
  send(buffer: Uint8Array<ArrayBuffer>, start: number, end: number): boolean;
  /** As {@linkcode send}, but the packet arrives behind all that the peer was told before it. */
  sendInOrder(buffer: Uint8Array<ArrayBuffer>, start: number, end: number): boolean;
  /** Resolves when {@linkcode send} takes packets again, or the link has ended; at once when it does now. */
  writable(): Promise<void>;
}
