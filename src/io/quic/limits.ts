/**
 * The bounds of a QUIC listener: what peers may take before and after they have proved who they are.
 */

/** Bounds of a listener. */
export interface QuicLimits {
  /** Connections at once; more are refused. One costs about 200 KB. */
  readonly maxConnections: number;
  /** Connections at once that are not authenticated; more are refused. */
  readonly maxUnauthenticated: number;
  /** Milliseconds a connection may stay unauthenticated. */
  readonly unauthenticatedMs: number;
  /** Open request streams while unauthenticated; each may park 1.25 MB in the transport. */
  readonly unauthenticatedStreams: number;
  /** Open two-way streams of one peer; the runtime fixes it at accept. Each may park 1.25 MB. */
  readonly maxStreams: number;
  /** Bytes of a field section, encoded and decoded. */
  readonly maxFieldSectionSize: number;
  /** WebTransport sessions of one connection. */
  readonly maxSessions: number;
  /** Milliseconds without a packet after which a connection counts as dead. */
  readonly idleTimeoutMs: number;
}

/** Bounds for one relay. */
export const DEFAULT_QUIC_LIMITS: QuicLimits = {
  maxConnections: 10_000,
  maxUnauthenticated: 256,
  unauthenticatedMs: 5_000,
  unauthenticatedStreams: 8,
  maxStreams: 256,
  maxFieldSectionSize: 16_384,
  maxSessions: 4,
  idleTimeoutMs: 300_000,
};
