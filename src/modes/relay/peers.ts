/**
 * Who is connected: admits each connection by the proof on its first request, prolongs it by later proofs of the same
 * identity, holds the limits on connections, and forgets peers when they go.
 */

import { createHash } from "node:crypto";
import { errorCode, errorMessage } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { RelayLimits } from "../../core/limits.ts";
import type { RequestHead, ServerConnection } from "../../dataplane/carrier.ts";
import type { ProofVerifier, VerifiedProof } from "../../identity/proof.ts";
import type { SpiffeId } from "../../identity/spiffe_id.ts";
import { H3_EXCESSIVE_LOAD, H3_NO_ERROR } from "../../wire/h3/codes.ts";
import { CLOSED_REFUSED } from "../shared/relay_protocol.ts";
import { type Refusal, REFUSALS } from "./refusal.ts";

/** An admitted connection. */
export interface Peer {
  readonly id: SpiffeId;
  readonly connection: ServerConnection;
  /** Serial number of the certificate last proved, upper-case hexadecimal. */
  readonly serial: string;
  /** The chain last proved, DER. */
  readonly chain: readonly Uint8Array[];
}

/** The verdict on a connection's credentials. */
export type Admission =
  | { readonly verdict: "allow"; readonly peer: Peer }
  | { readonly verdict: "deny"; readonly refusal: Refusal; readonly reason: string };

/** What {@linkcode Peers} needs. */
export interface PeersOptions {
  readonly verifier: Pick<ProofVerifier, "verify" | "isTrusted">;
  readonly limits: RelayLimits;
  readonly logger: Logger;
  /** Called once for each admitted connection. */
  readonly onAdmitted: (peer: Peer) => void;
}

/** Longest delay a timer takes, in milliseconds; a connection that outlives it looks again. */
const MAX_TIMER_MS = 2 ** 31 - 1;

/** All connections of one relay. */
export class Peers {
  readonly #options: PeersOptions;
  readonly #connections = new Map<ServerConnection, ConnectionState>();
  readonly #perIdentity = new Map<string, number>();
  /** Admitted connections by identity and group of their proofs. */
  readonly #groups = new Map<string, Set<AdmittedState>>();
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
    this.#connections.set(connection, { admitted: undefined, pending: undefined });
    this.#unauthenticated++;
    connection.closed.then(() => this.#leave(connection));
    return true;
  }

  /** All admitted connections. */
  *peers(): Iterable<Peer> {
    for (const { admitted } of this.#connections.values()) if (admitted !== undefined) yield admitted.peer;
  }

  /** Ends every admitted connection for which `fault` gives a reason: its peer's right to it is gone. */
  closeWhere(fault: (peer: Peer) => string | undefined): void {
    for (const peer of [...this.peers()]) {
      const reason = fault(peer);
      if (reason !== undefined) this.#end(peer, reason, CLOSED_REFUSED);
    }
  }

  /** A CA lost its trust: ends the connections of those who showed nothing else. */
  async recheck(): Promise<void> {
    const { verifier } = this.#options;
    // Connections of one node show one chain, which is looked at once.
    const chains = new Set([...this.peers()].map(({ chain }) => chain));
    for (const chain of chains) {
      if (await verifier.isTrusted(chain)) continue;
      // Who has proved a newer certificate meanwhile stays.
      this.closeWhere((peer) =>
        peer.chain === chain ? "the certificate's CA is no longer trusted" : undefined
      );
    }
  }

  #end({ id, connection }: Peer, reason: string, code: number = H3_NO_ERROR): void {
    this.#options.logger.info("peer_ended", { identity: id.uri, reason });
    connection.close(code, reason);
  }

  /**
   * Decides who makes this request: the connection's identity, or what its proof shows. A new proof on an admitted
   * connection prolongs it; one that is refused, or of somebody else, costs the request and nothing more.
   */
  async admit(connection: ServerConnection, head: RequestHead): Promise<Admission> {
    const state = this.#connections.get(connection);
    const token = bearerToken(head);
    if (state?.admitted !== undefined) {
      // Clients that know HTTP alone repeat the header they began with.
      if (token === undefined || digest(token) === state.admitted.digest) return allow(state.admitted);
      return await this.admitToken(connection, token);
    }
    if (token !== undefined) return await this.admitToken(connection, token);
    // Requests that arrive beside the one with the proof wait for its verdict.
    if (state?.pending !== undefined) return await state.pending;
    return { verdict: "deny", refusal: REFUSALS.noProof, reason: "no_proof" };
  }

  /** Admits or prolongs a connection by a proof; one at a time is judged. */
  async admitToken(connection: ServerConnection, token: string): Promise<Admission> {
    const state = this.#connections.get(connection);
    if (state === undefined) return connectionClosed();
    if (state.pending === undefined) {
      state.pending = this.#verify(connection, token)
        .finally(() => state.pending = undefined);
    }
    return await state.pending;
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
    const state = this.#connections.get(connection);
    if (state === undefined) return connectionClosed();
    const { admitted } = state;
    if (admitted === undefined) return this.#admitted(state, { connection, proof, token });
    if (admitted.peer.id.uri !== proof.id.uri) {
      this.#options.logger.warn("proof_of_another", { identity: admitted.peer.id.uri, proved: proof.id.uri });
      return { verdict: "deny", refusal: REFUSALS.badProof, reason: "other_identity" };
    }
    this.#renewed(admitted, proof);
    admitted.digest = digest(token);
    return allow(admitted);
  }

  #admitted(
    state: ConnectionState,
    { connection, proof, token }: { connection: ServerConnection; proof: VerifiedProof; token: string },
  ): Admission {
    const count = this.#perIdentity.get(proof.id.uri) ?? 0;
    if (count >= this.#options.limits.maxConnectionsPerIdentity) {
      return { verdict: "deny", refusal: REFUSALS.tooManyFlows, reason: "connections_per_identity" };
    }
    this.#perIdentity.set(proof.id.uri, count + 1);
    this.#unauthenticated--;
    const peer = { id: proof.id, connection, serial: proof.certificateSerial, chain: proof.chain };
    const admitted: AdmittedState = {
      peer,
      digest: digest(token),
      group: proof.group === undefined ? undefined : `${proof.id.uri} ${proof.group}`,
      notAfter: proof.notAfter,
      timer: undefined,
    };
    state.admitted = admitted;
    if (admitted.group !== undefined) {
      const group = this.#groups.get(admitted.group) ?? new Set();
      this.#groups.set(admitted.group, group.add(admitted));
    }
    this.#awaitExpiry(admitted);
    connection.setAuthenticated();
    this.#options.onAdmitted(peer);
    return allow(admitted);
  }

  /**
   * Prolongs a connection and those of its group: on TLS a connection carries one request, so that a flow there could
   * not prove anything itself. Only who knows the group's name can have made them, which a stolen certificate does not tell.
   */
  #renewed(admitted: AdmittedState, proof: VerifiedProof): void {
    const isSameGroup = admitted.group !== undefined &&
      admitted.group === `${proof.id.uri} ${proof.group ?? ""}`;
    const renewed = isSameGroup ? this.#groups.get(admitted.group!)! : [admitted];
    for (const each of renewed) {
      if (proof.notAfter < each.notAfter) continue;
      each.notAfter = proof.notAfter;
      each.peer.serial = proof.certificateSerial;
      each.peer.chain = proof.chain;
      this.#awaitExpiry(each);
    }
    this.#options.logger.debug("peer_renewed", {
      identity: proof.id.uri,
      notAfter: new Date(proof.notAfter).toISOString(),
    });
  }

  /** Ends the connection with its certificate. */
  #awaitExpiry(admitted: AdmittedState): void {
    clearTimeout(admitted.timer);
    const { connection } = admitted.peer;
    const left = admitted.notAfter - Date.now();
    admitted.timer = setTimeout(
      () =>
        left > MAX_TIMER_MS
          ? this.#awaitExpiry(admitted)
          : connection.close(H3_NO_ERROR, "certificate expired"),
      Math.min(Math.max(left, 0), MAX_TIMER_MS),
    );
  }

  #leave(connection: ServerConnection): void {
    const state = this.#connections.get(connection);
    if (state === undefined) return;
    this.#connections.delete(connection);
    const { admitted } = state;
    if (admitted === undefined) {
      this.#unauthenticated--;
      return;
    }
    clearTimeout(admitted.timer);
    const { uri } = admitted.peer.id;
    const count = this.#perIdentity.get(uri)! - 1;
    if (count === 0) this.#perIdentity.delete(uri);
    else this.#perIdentity.set(uri, count);
    if (admitted.group === undefined) return;
    const group = this.#groups.get(admitted.group)!;
    group.delete(admitted);
    if (group.size === 0) this.#groups.delete(admitted.group);
  }
}

interface ConnectionState {
  admitted: AdmittedState | undefined;
  /** The verdict being reached. */
  pending: Promise<Admission> | undefined;
}

interface AdmittedState {
  readonly peer: {
    readonly id: SpiffeId;
    readonly connection: ServerConnection;
    serial: string;
    chain: readonly Uint8Array[];
  };
  /** Of the proof last accepted. */
  digest: string;
  readonly group: string | undefined;
  /** Milliseconds since the epoch. */
  notAfter: number;
  timer: ReturnType<typeof setTimeout> | undefined;
}

function allow({ peer }: AdmittedState): Admission {
  return { verdict: "allow", peer };
}

function connectionClosed(): Admission {
  return { verdict: "deny", refusal: REFUSALS.noProof, reason: "connection_closed" };
}

function digest(token: string): string {
  return createHash("sha256").update(token).digest("base64");
}

function bearerToken(head: RequestHead): string | undefined {
  const value = head.headers.get("authorization") ?? head.headers.get("proxy-authorization");
  const match = value === undefined ? null : /^[Bb]earer +([A-Za-z0-9._~+/=-]+)$/.exec(value);
  return match?.[1];
}
