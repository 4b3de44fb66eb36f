/**
 * The end-to-end session between an agent and a connector: mutual TLS 1.3 inside a stream that the relay
 * carries. It yields one secret, from which every flow's keys come; the stream then stays open as the
 * session's sign of life.
 */

import type { ByteChannel } from "../base/channel.ts";
import type { FlowKeys } from "./flow_keys.ts";

/** The parts of an identity that a session shows and proves; `Identity` has them all. */
export interface SessionIdentity {
  readonly id: { readonly uri: string };
  readonly certificatePem: string;
  readonly privateKeyPem: string;
}

/** What both ends give to a session. */
export interface SessionOptions {
  /** The stream through the relay; the session owns it from here on. */
  readonly channel: ByteChannel;
  readonly identity: SessionIdentity;
  /** The network's root certificates, PEM. */
  readonly roots: readonly string[];
  /** Milliseconds since the epoch; default `Date.now`. */
  readonly now?: () => number;
  /** Tells whether a certificate, by its serial number in hexadecimal, was revoked. */
  readonly isRevoked?: (serial: string) => boolean;
  /** Ends the handshake early; use `AbortSignal.timeout`. It has no effect on the finished session. */
  readonly signal?: AbortSignal;
}

/** What the agent gives to its session. */
export interface OpenSessionOptions extends SessionOptions {
  /** The SPIFFE ID of the connector that the relay chose. */
  readonly expectPeer: string;
}

/** Who is at the other end: a SPIFFE ID in parts. */
export interface SessionPeer {
  readonly trustDomain: string;
  readonly kind: "relay" | "connector" | "agent" | "user";
  readonly name: string;
  readonly uri: string;
}

/** A live end-to-end session. */
export interface Session {
  /** Public name of the session, hexadecimal; both ends have the same. */
  readonly id: string;
  readonly role: "agent" | "connector";
  /** Our own SPIFFE ID. */
  readonly self: string;
  /** The authenticated other end. */
  readonly peer: SessionPeer;
  /** Milliseconds since the epoch at which the first of both certificates expires. */
  readonly notAfter: number;
  /** True once the session ended. */
  readonly isClosed: boolean;
  /** Resolves with the reason when the session ends, whoever ended it. Never rejects. */
  readonly closed: Promise<string>;
  /** The agent's next flow id. */
  nextFlowId(): bigint;
  /** The connector's replay window: true exactly once for each flow id. */
  acceptFlowId(flowId: bigint): boolean;
  /** Derives the keys of one flow, seen from our side. */
  flowKeys(flowId: bigint): FlowKeys;
  /** Registers something that must end with the session; returns the way to forget it. */
  onClose(callback: (reason: string) => void): () => void;
  /** Ends the session and all its flows. Idempotent. */
  close(reason?: string): void;
  [Symbol.asyncDispose](): Promise<void>;
}

/** Agent side: makes the session as TLS client and checks that the connector is the expected one. */
export function openSession(_options: OpenSessionOptions): Promise<Session> {
  return Promise.reject(new Error("not yet"));
}

/** Connector side: makes the session as TLS server; the caller must be an agent or a user. */
export function acceptSession(_options: SessionOptions): Promise<Session> {
  return Promise.reject(new Error("not yet"));
}
