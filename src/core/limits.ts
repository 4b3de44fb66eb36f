/**
 * Every bound a relay puts on what peers can make it hold, with unit, reason and worst-case memory. A relay's
 * config may change each; the config schema takes its defaults from here.
 */

/** The bounds of one relay. */
export interface RelayLimits {
  /** Connections, QUIC and TLS together. About 220 KB each when idle: 0.9 GB at the default. */
  readonly maxConnections: number;
  /** Connections that have not proved who they are; keeps a flood of strangers from using up `maxConnections`. */
  readonly maxUnauthenticatedConnections: number;
  /** Milliseconds a connection has to prove who it is. */
  readonly unauthenticatedTimeout: number;
  /** Connections of one identity; the TLS carrier needs one for each flow. */
  readonly maxConnectionsPerIdentity: number;
  /** Flows of one calling identity. A spliced flow buffers at most 256 KiB: 0.5 GB at the default. */
  readonly maxFlowsPerIdentity: number;
  /** Services that one connector may offer. About 300 bytes each. */
  readonly maxServicesPerConnector: number;
  /** Connectors that may offer one service; bounds the search for the least busy one. */
  readonly maxConnectorsPerService: number;
  /** Bytes of one request's header section (RFC 9114 §4.2.2), buffered before anything is known of the peer. */
  readonly maxHeaderBytes: number;
  /** Milliseconds without a byte in either direction after which a connection is closed. */
  readonly idleTimeout: number;
}

/** What a relay uses where its config is silent. */
export const DEFAULT_RELAY_LIMITS: RelayLimits = {
  maxConnections: 4_096,
  maxUnauthenticatedConnections: 256,
  unauthenticatedTimeout: 5_000,
  maxConnectionsPerIdentity: 2_048,
  maxFlowsPerIdentity: 2_048,
  maxServicesPerConnector: 256,
  maxConnectorsPerService: 64,
  maxHeaderBytes: 16_384,
  idleTimeout: 300_000,
};
