/**
 * Every way the end-to-end data plane fails, each with its own code: a peer that cannot be trusted, a relay
 * that tampers, a flow the other end refuses.
 */

import { GinnelError, type GinnelErrorOptions } from "../base/errors.ts";

/** Codes of {@linkcode DataplaneError}. */
export type DataplaneErrorCode =
  /** The session's TLS handshake failed or was cut: foreign certificate, older TLS, another protocol. */
  | "ERR_SESSION_HANDSHAKE"
  /** The peer's certificate chain does not lead to the network's roots, is expired or revoked. */
  | "ERR_SESSION_UNTRUSTED"
  /** The peer is a valid identity of a kind that may not play this part. */
  | "ERR_SESSION_PEER_KIND"
  /** The peer is a valid connector, but another one than we asked for. */
  | "ERR_SESSION_PEER_MISMATCH"
  /** The hello messages were malformed, or bytes came where none may come. */
  | "ERR_SESSION_PROTOCOL"
  /** The session has ended; its flows and keys are gone. */
  | "ERR_SESSION_CLOSED"
  /** A sealed record does not authenticate: altered, from another flow, or reflected. */
  | "ERR_RECORD_FORGED"
  /** A sealed record is not the next one: lost, replayed, duplicated or reordered. */
  | "ERR_RECORD_SEQUENCE"
  /** A record header has an unknown type or flags. */
  | "ERR_RECORD_MALFORMED"
  /** A record claims more than its type may carry. */
  | "ERR_RECORD_TOO_LONG"
  /** An authentic record came where the flow's state does not allow its type. */
  | "ERR_RECORD_ORDER"
  /** Something followed the sealed end of the flow. */
  | "ERR_RECORD_AFTER_FIN"
  /** The path ended without the sealed end of the flow. */
  | "ERR_FLOW_TRUNCATED"
  /** The flow's opening is malformed or of an unknown version. */
  | "ERR_FLOW_OPEN"
  /** The flow names a session this connector does not hold. */
  | "ERR_FLOW_UNKNOWN_SESSION"
  /** The flow's id was already used in its session. */
  | "ERR_FLOW_REPLAYED"
  /** What the relay says about the flow differs from what the agent sealed. */
  | "ERR_FLOW_REDIRECTED"
  /** The other end, or we, refused the flow for a stated reason. */
  | "ERR_FLOW_REFUSED"
  /** Nothing crossed the flow for the idle time-out. */
  | "ERR_FLOW_IDLE";

/** A failure of the end-to-end session or of a sealed flow. */
export class DataplaneError extends GinnelError {
  declare readonly code: DataplaneErrorCode;

  constructor(code: DataplaneErrorCode, message: string, options: GinnelErrorOptions = {}) {
    super(code, message, options);
  }
}

/**
 * Why one end refuses or resets a flow. The position is the code on the wire: append, never reorder.
 */
export const RESET_REASONS = [
  "reset",
  "denied",
  "unknown-service",
  "upstream-refused",
  "upstream-unreachable",
  "upstream-timeout",
  "overloaded",
  "draining",
  "redirected",
  "internal",
] as const;

/** One of {@linkcode RESET_REASONS}. */
export type ResetReason = typeof RESET_REASONS[number];

/** The flow was refused before it opened, by the far end (agent side) or by us (connector side). */
export class FlowRefusedError extends DataplaneError {
  readonly reason: ResetReason;

  constructor(reason: ResetReason, message = `Flow refused: ${reason}`, options: GinnelErrorOptions = {}) {
    super("ERR_FLOW_REFUSED", message, options);
    this.reason = reason;
  }
}
