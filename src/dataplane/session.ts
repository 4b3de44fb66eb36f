/**
 * The end-to-end session between an agent and a connector. Its handshake yields one secret, from which every
 * flow's keys come; its stream then stays open as the session's sign of life.
 */

import { toHex } from "../base/bytes.ts";
import type { SpiffeId } from "../identity/spiffe_id.ts";
import { DataplaneError } from "./errors.ts";
import { deriveFlowKeys, deriveSessionId, type FlowKeys } from "./flow_keys.ts";
import { ReplayWindow } from "./replay_window.ts";
import {
  type Handshake,
  type HandshakeOptions,
  type SessionRole,
  shakeHandsAsAgent,
  shakeHandsAsConnector,
} from "./session_handshake.ts";

/** What the agent gives to its session. */
export interface OpenSessionOptions extends HandshakeOptions {
  /** The SPIFFE ID of the connector that the relay chose. */
  readonly expectPeer: string;
}

/** A live end-to-end session. */
export interface Session extends AsyncDisposable {
  /** Public name of the session, hexadecimal; both ends have the same. */
  readonly id: string;
  readonly role: SessionRole;
  /** Our own SPIFFE ID. */
  readonly self: string;
  /** The authenticated other end. */
  readonly peer: SpiffeId;
  /** Serial number of the peer's certificate, upper-case hexadecimal, for revocation. */
  readonly peerSerial: string;
  /** Milliseconds since the epoch at which the first of both certificates expires and the session ends. */
  readonly notAfter: number;
  /** True once the session ended. */
  readonly isClosed: boolean;
  /** Resolves with the reason when the session ends, whoever ended it. Never rejects. */
  readonly closed: Promise<string>;
  /** The agent's next flow id. */
  nextFlowId(): bigint;
  /** The connector's replay window: true at most once for each flow id. */
  acceptFlowId(flowId: bigint): boolean;
  /** Derives the keys of one flow, seen from our side. */
  flowKeys(flowId: bigint): FlowKeys;
  /** Calls back when the session ends, at once if it has; returns the way to forget it. */
  onClose(callback: (reason: string) => void): () => void;
  /** Ends the session and all its flows. Idempotent. */
  close(reason?: string): void;
}

/** Agent side: rejects with a `DataplaneError` `ERR_SESSION_*` unless `expectPeer` itself is at the other end. */
export async function openSession(options: OpenSessionOptions): Promise<Session> {
  return new LiveSession("agent", { ...options, ...await shakeHandsAsAgent(options) });
}

/** Connector side: rejects with a `DataplaneError` `ERR_SESSION_*` unless an agent or a user is at the other end. */
export async function acceptSession(options: HandshakeOptions): Promise<Session> {
  return new LiveSession("connector", { ...options, ...await shakeHandsAsConnector(options) });
}

/** A timer takes no more; a session that outlives it looks again. */
const MAX_TIMEOUT = 2 ** 31 - 1;

/** How long a closing session's last bytes may take to leave, in milliseconds. */
const GOODBYE_LINGER = 1_000;

class LiveSession implements Session {
  readonly id: string;
  readonly role: SessionRole;
  readonly self: string;
  readonly peer: SpiffeId;
  readonly peerSerial: string;
  readonly notAfter: number;
  readonly closed: Promise<string>;
  readonly #parts: HandshakeOptions & Handshake;
  readonly #replayWindow = new ReplayWindow();
  readonly #callbacks = new Set<(reason: string) => void>();
  readonly #resolveClosed: (reason: string) => void;
  #closeReason: string | undefined;
  #nextFlowId = 0n;
  #expiry: ReturnType<typeof setTimeout> | undefined;

  constructor(role: SessionRole, parts: HandshakeOptions & Handshake) {
    const { identity, peer, secret } = parts;
    this.role = role;
    this.self = identity.id.uri;
    this.peer = peer.id;
    this.peerSerial = peer.serial;
    this.notAfter = Math.min(identity.notAfter, peer.notAfter);
    this.id = toHex(deriveSessionId(secret));
    this.#parts = parts;
    ({ promise: this.closed, resolve: this.#resolveClosed } = Promise.withResolvers<string>());
    this.#watch();
    this.#awaitExpiry();
  }

  get isClosed(): boolean {
    return this.#closeReason !== undefined;
  }

  nextFlowId(): bigint {
    return this.#nextFlowId++;
  }

  acceptFlowId(flowId: bigint): boolean {
    return !this.isClosed && this.#replayWindow.accept(flowId);
  }

  flowKeys(flowId: bigint): FlowKeys {
    if (this.isClosed) throw new DataplaneError("ERR_SESSION_CLOSED", `Session ended: ${this.#closeReason}`);
    return deriveFlowKeys(this.#parts.secret, { flowId, role: this.role });
  }

  onClose(callback: (reason: string) => void): () => void {
    if (this.#closeReason !== undefined) callback(this.#closeReason);
    else this.#callbacks.add(callback);
    return () => void this.#callbacks.delete(callback);
  }

  close(reason = "closed"): void {
    if (this.#closeReason !== undefined) return;
    this.#closeReason = reason;
    clearTimeout(this.#expiry);
    this.#parts.secret.fill(0);
    this.#endStream();
    for (const callback of this.#callbacks) callback(reason);
    this.#callbacks.clear();
    this.#resolveClosed(reason);
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.close();
    return Promise.resolve();
  }

  /** Says goodbye in TLS, so that the path sees a clean end; a peer or path that blocks it is not waited for. */
  #endStream(): void {
    const { socket, duplex } = this.#parts;
    if (duplex.destroyed) {
      socket.destroy();
      return;
    }
    const timer = setTimeout(() => duplex.destroy(), GOODBYE_LINGER);
    duplex.once("close", () => {
      clearTimeout(timer);
      socket.destroy();
    });
    socket.end(() => duplex.end());
    // Only a stream that is read reaches its end.
    socket.resume();
  }

  /** Nothing may come after the hellos; the end of the stream is the end of the session. */
  #watch(): void {
    const { socket, duplex } = this.#parts;
    socket.on("data", () => this.close("unexpected bytes from the peer"));
    socket.on("end", () => this.close("ended by the peer"));
    socket.on("close", () => this.close("stream lost"));
    duplex.on("close", () => this.close("stream lost"));
  }

  #awaitExpiry(): void {
    const { now = Date.now } = this.#parts;
    const remaining = this.notAfter - now();
    if (remaining <= 0) return this.close("certificate expired");
    this.#expiry = setTimeout(() => this.#awaitExpiry(), Math.min(remaining, MAX_TIMEOUT));
  }
}
