/**
 * The header fields and protocol names by which nodes and relay speak beyond the RFCs.
 */

/** Says that the body carries sealed records; value "?1". */
export const SEALED_HEADER = "ginnel-sealed";

/** Tells a connector's processes apart; the relay names with it the one it chose. */
export const INSTANCE_HEADER = "ginnel-instance";

/** The SPIFFE ID of the connector chosen for a flow. */
export const CONNECTOR_HEADER = "ginnel-connector";

/** Connector instances an agent does not want again for this flow, joined by commas. */
export const AVOID_HEADER = "ginnel-avoid";

/** What a sealed flow of datagrams carries: "udp", also where it is absent, or "icmp" for echo messages. */
export const PROTOCOL_HEADER = "ginnel-protocol";

/** In the answer to a flow of datagrams: bytes of the largest payload that crosses the relay as a datagram; 0: none. */
export const DATAGRAM_SIZE_HEADER = "ginnel-datagram-size";

/** Extended CONNECT protocol by which a connector parks a TLS connection for a later flow. */
export const PARK_PROTOCOL = "ginnel-reverse";

/** Application error code of a connection that the relay ends because its peer may be here no more. */
export const CLOSED_REFUSED = 0x67_6e_6c;
