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

/** Extended CONNECT protocol by which a connector parks a TLS connection for a later flow. */
export const PARK_PROTOCOL = "ginnel-reverse";
