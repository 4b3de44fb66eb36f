/**
 * What the agent's local listeners ask of the network: a flow to a service, and the one vocabulary in which they
 * tell their clients why there is none.
 */

import type { ByteChannel } from "../../base/channel.ts";
import { GinnelError, type GinnelErrorOptions } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { DatagramFlow } from "../../dataplane/datagram/datagram_flow.ts";
import { FlowRefusedError, type ResetReason } from "../../dataplane/errors.ts";

/** Where a local client wants to go. */
export interface FlowTarget {
  readonly service: string;
  /** The port asked of the service; the service's own when absent. */
  readonly port?: number;
  /** The name or address that the client asked for, where it is not the service's own; for connectors that forward it. */
  readonly address?: string;
}

/** Opens a flow; rejects with {@linkcode FlowUnavailableError}, `FlowRefusedError` or the signal's reason. */
export type ConnectFlow = (
  target: FlowTarget,
  options: { readonly signal: AbortSignal },
) => Promise<ByteChannel>;

/** What crosses in a flow of datagrams, and where to. */
export interface DatagramTarget extends FlowTarget {
  /** `icmp`: echo messages, answered by the connector. */
  readonly protocol: "udp" | "icmp";
}

/** Opens a flow of datagrams; rejects as {@linkcode ConnectFlow} does. */
export type ConnectDatagrams = (
  target: DatagramTarget,
  options: { readonly signal: AbortSignal },
) => Promise<DatagramFlow>;

/**
 * The target that a host and port mean here; throws {@linkcode FlowUnavailableError} for what cannot be a service's.
 */
export type ResolveTarget = (
  host: string,
  question: { readonly protocol: "tcp" | "udp"; readonly port: number },
) => FlowTarget;

/** What every handler of local clients works with. */
export interface LocalClientContext {
  readonly connect: ConnectFlow;
  readonly targetOf: ResolveTarget;
  readonly logger: Logger;
  /** Ends the client's flow. */
  readonly signal: AbortSignal;
  /** Milliseconds a client has to say what it wants; default 10 s. */
  readonly handshakeTimeout?: number;
}

/** Why there is no flow, as HTTP says it: a status, an error type of RFC 9209 §2.3, and one line for a person. */
export interface FlowFailure {
  readonly status: number;
  readonly error: string;
  readonly details: string;
}

/** The network did not give the flow. */
export class FlowUnavailableError extends GinnelError {
  readonly failure: FlowFailure;

  constructor(failure: FlowFailure, options: GinnelErrorOptions = {}) {
    super("ERR_FLOW_UNAVAILABLE", `No flow: ${failure.details}`, options);
    this.failure = failure;
  }
}

/** Says why a flow could not be opened. Errors that are not about the flow keep their text to the log. */
export function flowFailure(error: unknown): FlowFailure {
  if (error instanceof FlowUnavailableError) return error.failure;
  if (error instanceof FlowRefusedError) return FAR_END_FAILURES[error.reason];
  return { status: 502, error: "proxy_internal_error", details: "the flow could not be opened" };
}

const FAR_END_FAILURES: Readonly<Record<ResetReason, FlowFailure>> = {
  "reset": { status: 502, error: "connection_terminated", details: "the connector reset the flow" },
  "denied": { status: 403, error: "http_request_denied", details: "no policy allows this" },
  "unknown-service": { status: 404, error: "destination_not_found", details: "no such service" },
  "upstream-refused": { status: 502, error: "connection_refused", details: "upstream refused" },
  "upstream-unreachable": { status: 502, error: "destination_unavailable", details: "upstream unreachable" },
  "upstream-timeout": { status: 504, error: "connection_timeout", details: "upstream timed out" },
  "overloaded": { status: 503, error: "connection_limit_reached", details: "the connector is overloaded" },
  "draining": { status: 503, error: "destination_unavailable", details: "the connector is draining" },
  "redirected": { status: 502, error: "proxy_internal_error", details: "the relay redirected the flow" },
  "internal": { status: 502, error: "proxy_internal_error", details: "the connector failed" },
};
