/**
 * The end-to-end session between an agent and a connector. Its handshake yields one secret, from which every
 * flow's keys come; its stream then stays open as the session's sign of life, and for renewed certificates.
 */

import { toHex } from "../base/bytes.ts";
import { revoked } from "../identity/chain.ts";
import { IdentityError } from "../identity/errors.ts";
import type { Identity } from "../identity/identity_file.ts";
import { verifyRenewal } from "../identity/renewal.ts";
import type { SpiffeId } from "../identity/spiffe_id.ts";
import { DataplaneError } from "./errors.ts";
import { deriveDatagramKeys, deriveFlowKeys, deriveSessionId, type FlowKeys } from "./flow_keys.ts";
import { ReplayWindow } from "./replay_window.ts";
import {
  type Handshake,
  type HandshakeOptions,
  MAX_STREAM_BYTES,
  shakeHandsAsAgent,
  shakeHandsAsConnector,
} from "./session_handshake.ts";
import { SessionRenewer } from "./session_renewal.ts";
import { chainTrust, type SessionRole, type SessionTrust, trustOf, verifyPeer } from "./session_trust.ts";

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
  /** Serial number of the peer's newest certificate, upper-case hexadecimal. */
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
  /** Derives the keys of one flow's records, seen from our side. */
  flowKeys(flowId: bigint): FlowKeys;
  /** Derives the keys of one flow's datagrams, seen from our side. */
  datagramKeys(flowId: bigint): FlowKeys;
  /** Shows the peer our newer certificate, so that the session outlives the one it was made with. */
  renew(identity: Identity): void;
  /** Trust or the list of what is revoked has changed: ends the session unless its peer would still be let in. */
  recheck(): void;
  /** Calls back when the session ends, at once if it has; returns the way to forget it. */
  onClose(callback: (reason: string) => void): () => void;
  /** Another session takes the flows from now on: ends once those that run have ended, `grace` milliseconds from now at the earliest. */
  retire(grace?: number): void;
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

/** How long a session that is replaced stays for the flows that are just being opened, in milliseconds. */
const RETIREMENT_GRACE = 30_000;

/** How long a closing session's last bytes may take to leave, in milliseconds. */
const GOODBYE_LINGER = 1_000;

class LiveSession implements Session {
  readonly id: string;
  readonly role: SessionRole;
  readonly self: string;
  readonly peer: SpiffeId;
  readonly closed: Promise<string>;
  readonly #parts: HandshakeOptions & Handshake;
  readonly #replayWindow = new ReplayWindow();
  readonly #callbacks = new Set<(reason: string) => void>();
  readonly #resolveClosed: (reason: string) => void;
  readonly #renewer: SessionRenewer;
  /** That under which the peer's chain was verified. */
  #trust: SessionTrust;
  /** What the peer showed last. */
  #peerChain: readonly Uint8Array[];
  #peerSerial: string;
  #peerNotAfter: number;
  #ownNotAfter: number;
  #closeReason: string | undefined;
  #nextFlowId = 0n;
  #expiry: ReturnType<typeof setTimeout> | undefined;
  #retirement: ReturnType<typeof setTimeout> | undefined;
  #isRetired = false;

  constructor(role: SessionRole, parts: HandshakeOptions & Handshake) {
    const { identity, peer, secret } = parts;
    this.role = role;
    this.self = identity.id.uri;
    this.peer = peer.id;
    this.#trust = trustOf(parts);
    this.#peerChain = peer.chainDer;
    this.#peerSerial = peer.serial;
    this.#peerNotAfter = peer.notAfter;
    this.#ownNotAfter = identity.notAfter;
    this.id = toHex(deriveSessionId(secret));
    this.#parts = parts;
    this.#renewer = new SessionRenewer({
      session: this.id,
      peer: peer.id.uri,
      now: parts.now ?? Date.now,
      send: (bytes) => void parts.socket.write(bytes),
      accept: (proof) => this.#acceptRenewal(proof),
      onRenewed: (until) => {
        this.#ownNotAfter = Math.max(this.#ownNotAfter, until);
        this.#awaitExpiry();
      },
    });
    ({ promise: this.closed, resolve: this.#resolveClosed } = Promise.withResolvers<string>());
    this.#watch();
    this.#awaitExpiry();
  }

  get peerSerial(): string {
    return this.#peerSerial;
  }

  get notAfter(): number {
    return Math.min(this.#ownNotAfter, this.#peerNotAfter);
  }

  get isClosed(): boolean {
    return this.#closeReason !== undefined;
  }

  nextFlowId(): bigint {
    return this.#nextFlowId++;
  }

  acceptFlowId(flowId: bigint): boolean {
    // An agent counts from 0: no honest one gets beyond what a number holds.
    const isCountable = flowId <= BigInt(Number.MAX_SAFE_INTEGER);
    return !this.isClosed && isCountable && this.#replayWindow.accept(Number(flowId));
  }

  flowKeys(flowId: bigint): FlowKeys {
    return deriveFlowKeys(this.#secret(), { flowId, role: this.role });
  }

  datagramKeys(flowId: bigint): FlowKeys {
    return deriveDatagramKeys(this.#secret(), { flowId, role: this.role });
  }

  renew(identity: Identity): void {
    const { isRenewable } = this.#parts;
    if (isRenewable && identity.id.uri === this.self && identity.notAfter > this.#ownNotAfter) {
      this.#renewer.offer(identity);
    }
  }

  recheck(): void {
    const { now = Date.now } = this.#parts;
    const trust = trustOf(this.#parts);
    if (trust.isRevoked?.({ id: this.peer, serial: this.#peerSerial })) {
      return this.close("the peer's certificate was revoked");
    }
    const isKnown = trust.roots === this.#trust.roots && trust.foreign === this.#trust.foreign;
    if (isKnown) return;
    this.#trust = trust;
    const chain = this.#peerChain;
    verifyPeer(chain, { trust, role: this.role, now: now() }).catch(() => {
      // Another chain was verified meanwhile, under the present trust.
      if (chain === this.#peerChain) this.close("the peer's certificate is no longer trusted");
    });
  }

  onClose(callback: (reason: string) => void): () => void {
    if (this.#closeReason !== undefined) callback(this.#closeReason);
    else this.#callbacks.add(callback);
    return () => {
      this.#callbacks.delete(callback);
      this.#endIfIdle();
    };
  }

  retire(grace = RETIREMENT_GRACE): void {
    if (this.isClosed) return;
    this.#retirement ??= setTimeout(() => {
      this.#isRetired = true;
      this.#endIfIdle();
    }, grace);
  }

  close(reason = "closed"): void {
    if (this.#closeReason !== undefined) return;
    this.#closeReason = reason;
    clearTimeout(this.#expiry);
    clearTimeout(this.#retirement);
    this.#renewer.close();
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

  /** Every flow waits for its session's end; a retired one that nobody waits for has none. */
  #endIfIdle(): void {
    if (this.#isRetired && this.#callbacks.size === 0) this.close("replaced");
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

  #secret(): Uint8Array {
    if (this.isClosed) throw new DataplaneError("ERR_SESSION_CLOSED", `Session ended: ${this.#closeReason}`);
    return this.#parts.secret;
  }

  /** Only renewals may come after the hellos; the end of the stream is the end of the session. */
  #watch(): void {
    const { socket, duplex, isRenewable } = this.#parts;
    socket.on("data", (bytes) => {
      if (this.isClosed) return;
      if (!isRenewable) return this.close("unexpected bytes from the peer");
      try {
        this.#renewer.receive(bytes);
      } catch {
        // What is wrong with them is the peer's affair.
        this.close("unexpected bytes from the peer");
      }
    });
    socket.on("end", () => this.close("ended by the peer"));
    socket.on("close", () => this.close("stream lost"));
    duplex.on("close", () => this.close("stream lost"));
  }

  /** Takes the peer's newer certificate; what it proves must be later than what is known, so nothing counts twice. */
  async #acceptRenewal(proof: string): Promise<number> {
    const { now = Date.now, duplex } = this.#parts;
    const chain = await verifyRenewal(proof, {
      subject: this.peer.uri,
      audience: this.self,
      session: this.id,
      now: now(),
      ...chainTrust(trustOf(this.#parts), this.role),
    });
    // Revoked while its proof was judged.
    if (trustOf(this.#parts).isRevoked?.(chain)) throw revoked(chain.id);
    if (chain.notAfter <= this.#peerNotAfter) {
      throw new IdentityError("ERR_PROOF_REPLAYED", "Cannot accept the renewal: it brings nothing newer");
    }
    this.#peerChain = chain.chainDer;
    this.#peerSerial = chain.serial;
    this.#peerNotAfter = chain.notAfter;
    duplex.grant(MAX_STREAM_BYTES);
    this.#awaitExpiry();
    return chain.notAfter;
  }

  #awaitExpiry(): void {
    clearTimeout(this.#expiry);
    if (this.isClosed) return;
    const { now = Date.now } = this.#parts;
    const remaining = this.notAfter - now();
    if (remaining <= 0) return this.close("certificate expired");
    this.#expiry = setTimeout(() => this.#awaitExpiry(), Math.min(remaining, MAX_TIMEOUT));
  }
}
