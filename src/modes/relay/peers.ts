/**
 * Who is connected: admits each connection by the proof on its first request, holds the limits on
 * connections, and forgets peers when they go.
 */

import { errorCode, errorMessage } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { RelayLimits } from "../../core/limits.ts";
import type { RequestHead, ServerConnection } from "../../dataplane/carrier.ts";
import type { ProofVerifier, VerifiedProof } from "../../identity/proof.ts";
import type { SpiffeId } from "../../identity/spiffe_id.ts";
import { H3_EXCESSIVE_LOAD, H3_NO_ERROR } from "../../wire/h3/codes.ts";
import { type Refusal, REFUSALS } from "./refusal.ts";

/** An admitted connection. */
export interface Peer {
  readonly id: SpiffeId;
  readonly connection: ServerConnection;
}

/** The verdict on a connection's credentials. */
export type Admission =
  | { readonly verdict: "allow"; readonly peer: Peer }
  | { readonly verdict: "deny"; readonly refusal: Refusal; readonly reason: string };

/** What {@linkcode Peers} needs. */
export interface PeersOptions {
  readonly verifier: Pick<ProofVerifier, "verify">;
  readonly limits: RelayLimits;
  readonly logger: Logger;
  /** Called once for each admitted connection. */
  readonly onAdmitted: (peer: Peer) => void;
}

/** Longest delay a timer takes, in milliseconds: a later expiry is caught by the reconnect long before. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/** All connections of one relay. */
export class Peers {
  readonly #options: PeersOptions;
  readonly #connections = new Map<ServerConnection, ConnectionState>();
  readonly #perIdentity = new Map<string, number>();
  #unauthenticated = 0;

  constructor(options: PeersOptions) {
    this.#options = options;
  }

  /** Connections held now. */
  get size(): number {
    return this.#connections.size;
  }

  /** All connections, admitted or not. */
  connections(): Iterable<ServerConnection> {
    return this.#connections.keys();
  }

  /** SPIFFE IDs of all admitted peers. */
  identities(): Iterable<string> {
    return this.#perIdentity.keys();
  }

  /**
   * Takes in a new connection, which its listener ends unless it is admitted in time; returns false when a limit
   * closed it.
   */
  enter(connection: ServerConnection): boolean {
    const { limits, logger } = this.#options;
    if (
      this.#connections.size >= limits.maxConnections ||
      this.#unauthenticated >= limits.maxUnauthenticatedConnections
    ) {
      logger.warn("connection_limit_reached", {
        connections: this.#connections.size,
        unauthenticated: this.#unauthenticated,
      });
      connection.close(H3_EXCESSIVE_LOAD, "too many connections");
      return false;
    }
    this.#connections.set(connection, { peer: undefined, pending: undefined, timer: undefined });
    this.#unauthenticated++;
    connection.closed.then(() => this.#leave(connection));
    return true;
  }

  /** Decides who makes this request: the connection's identity, or what its proof shows. */
  async admit(connection: ServerConnection, head: RequestHead): Promise<Admission> {
    const state = this.#connections.get(connection);
    if (state?.peer !== undefined) return { verdict: "allow", peer: state.peer };
    const token = bearerToken(head);
    if (token !== undefined) return await this.admitToken(connection, token);
    // Requests that arrive beside the one with the proof wait for its verdict.
    if (state?.pending !== undefined) return await state.pending;
    return { verdict: "deny", refusal: REFUSALS.noProof, reason: "no_proof" };
  }

  /** Admits a connection by a proof that came by other means than a header. */
  async admitToken(connection: ServerConnection, token: string): Promise<Admission> {
    const state = this.#connections.get(connection);
    if (state === undefined) {
      return { verdict: "deny", refusal: REFUSALS.noProof, reason: "connection_closed" };
    }
    if (state.pending === undefined) state.pending = this.#verify(connection, token);
    const admission = await state.pending;
    // A refused proof may be followed by a better one until the time for it is over.
    if (admission.verdict === "deny") state.pending = undefined;
    return admission;
  }

  async #verify(connection: ServerConnection, token: string): Promise<Admission> {
    let proof: VerifiedProof;
    try {
      proof = await this.#options.verifier.verify(token);
    } catch (error) {
      this.#options.logger.info("proof_refused", {
        connection: connection.id,
        reason: errorCode(error),
        detail: errorMessage(error),
      });
      return { verdict: "deny", refusal: REFUSALS.badProof, reason: errorCode(error) };
    }
    return this.#admitted(connection, proof);
  }

  #admitted(connection: ServerConnection, proof: VerifiedProof): Admission {
    const state = this.#connections.get(connection);
    if (state === undefined) {
      return { verdict: "deny", refusal: REFUSALS.noProof, reason: "connection_closed" };
    }
    const count = this.#perIdentity.get(proof.id.uri) ?? 0;
    if (count >= this.#options.limits.maxConnectionsPerIdentity) {
      return { verdict: "deny", refusal: REFUSALS.tooManyFlows, reason: "connections_per_identity" };
    }
    this.#perIdentity.set(proof.id.uri, count + 1);
    this.#unauthenticated--;
    const peer: Peer = { id: proof.id, connection };
    state.peer = peer;
    const lifetime = Math.min(Math.max(proof.notAfter - Date.now(), 0), MAX_TIMER_MS);
    state.timer = setTimeout(() => connection.close(H3_NO_ERROR, "certificate expired"), lifetime);
    connection.setAuthenticated();
    this.#options.onAdmitted(peer);
    return { verdict: "allow", peer };
  }

  #leave(connection: ServerConnection): void {
    const state = this.#connections.get(connection);
    if (state === undefined) return;
    this.#connections.delete(connection);
    clearTimeout(state.timer);
    if (state.peer === undefined) {
      this.#unauthenticated--;
      return;
    }
    const { uri } = state.peer.id;
    const count = this.#perIdentity.get(uri)! - 1;
    if (count === 0) this.#perIdentity.delete(uri);
    else this.#perIdentity.set(uri, count);
  }
}

interface ConnectionState {
  peer: Peer | undefined;
  pending: Promise<Admission> | undefined;
  /** Ends the connection with its certificate. */
  timer: ReturnType<typeof setTimeout> | undefined;
}

function bearerToken(head: RequestHead): string | undefined {
  const value = head.headers.get("authorization") ?? head.headers.get("proxy-authorization");
  const match = value === undefined ? null : /^[Bb]earer +([A-Za-z0-9._~+/=-]+)$/.exec(value);
  return match?.[1];
}
