/**
 * Opening a sealed flow: the agent seals OPEN with what it wants, the connector authenticates it, compares it
 * with what the relay says, asks its view, dials the upstream, and answers OPENED or RESET with a reason.
 */

import type { ByteChannel } from "../base/channel.ts";
import type { Session } from "./session.ts";

/** What the agent asks for. */
export interface FlowTarget {
  readonly service: string;
  /** Port the client asked for, where the service cares. */
  readonly port?: number;
  readonly protocol: "tcp";
}

/** What the relay's plain flow header says; the connector believes none of it unchecked. */
export interface RelayedFlow extends FlowTarget {
  /** SPIFFE ID of the caller according to the relay. */
  readonly caller: string;
}

/** The authenticated content of OPEN. */
export interface OpenHeader extends FlowTarget {
  readonly flowId: bigint;
  /** SPIFFE IDs of both ends. */
  readonly caller: string;
  readonly connector: string;
}

/** What {@linkcode openFlow} needs. */
export interface OpenFlowOptions {
  /** The flow's stream through the relay; owned by the flow from here on. */
  readonly channel: ByteChannel;
  readonly session: Session;
  readonly header: FlowTarget;
  /** Gives up waiting for the answer. No effect on the open flow. */
  readonly signal?: AbortSignal;
}

/** A verdict on a flow; the core's policy decisions have this shape. */
export type FlowDecision =
  | { readonly verdict: "allow" }
  | { readonly verdict: "deny"; readonly reason: string };

/** What {@linkcode acceptFlow} needs. */
export interface AcceptFlowOptions {
  /** The flow's stream from the relay, after the relay's plain header; owned by the flow from here on. */
  readonly channel: ByteChannel;
  /** The relay's plain flow header. */
  readonly relayed: RelayedFlow;
  /** Finds a session by its public id. */
  readonly findSession: (id: string) => Session | undefined;
  /** May this caller dial this service here? A denial goes out as RESET "denied". */
  readonly authorize: (header: OpenHeader) => FlowDecision;
  /** Reaches the upstream; throw `FlowRefusedError` to choose the reason the agent sees. */
  readonly dial: (header: OpenHeader, signal: AbortSignal) => Promise<ByteChannel>;
  /** Ends the opening early. No effect on the open flow. */
  readonly signal?: AbortSignal;
}

/** An open flow at the connector: splice `channel` and `upstream`. */
export interface AcceptedFlow {
  readonly header: OpenHeader;
  readonly session: Session;
  readonly channel: ByteChannel;
  readonly upstream: ByteChannel;
}

/** Agent side: opens a sealed flow; rejects with `FlowRefusedError` when the connector refuses it. */
export function openFlow(_options: OpenFlowOptions): Promise<ByteChannel> {
  return Promise.reject(new Error("not yet"));
}

/** Connector side: authenticates, authorizes and dials; every failure answers or aborts the stream and rejects. */
export function acceptFlow(_options: AcceptFlowOptions): Promise<AcceptedFlow> {
  return Promise.reject(new Error("not yet"));
}
