/** All tunnel clients of a relay: gives each its judge, keeps the total bounded, forgets what is idle. */

import type { PeerResolver } from "./client_rules.ts";
import { EgressClient, type EgressHost, type EgressSession } from "./egress_client.ts";
import type { FlowEntry } from "./flow.ts";

/** How an engine is made. A flow takes about 400 bytes. */
export interface EgressEngineOptions {
  /** Flows remembered for one client. */
  readonly capacityPerClient: number;
  /** Flows remembered for all; each client may have {@linkcode RESERVED_FLOWS} beyond. */
  readonly capacity: number;
  /** Who has an address of a pool right now; absent: nobody, and `identity` rules match nothing. */
  readonly identityAt?: PeerResolver;
  /** Tells whether an address is the relay's own machine, which no rule for the internet means; absent: none is. */
  readonly isOwnAddress?: EgressHost["isOwnAddress"];
  /** A random number that peers do not know: it keeps them from choosing flows that are slow to find. */
  readonly seed?: number;
  /**
   * Until when TCP connections in the middle are taken up again where the client may open them, in the clock of the
   * packets: for a while after a restart. Default: never.
   */
  readonly adoptsUntil?: number;
}

/** Called for each flow that is over. */
export type FlowClosed = (flow: FlowEntry, client: EgressClient) => void;

/** Flows that each client may have however full the engine is: nobody can be starved by others. */
const RESERVED_FLOWS = 64;

/** Milliseconds the flows of a client without a session are kept, for when it comes back. */
const ABSENCE = 300_000;

/** Clients without a session that are kept; the one gone longest gives way. */
const MAX_ABSENT = 1_024;

/** Flows closed by one call of {@linkcode EgressEngine.expire}, about a millisecond's work. */
const MAX_CLOSED = 4_096;

/** Evicted flows remembered for the next {@linkcode EgressEngine.expire}; of more, the counters are lost. */
const MAX_EVICTED = 1_024;

/** The clients of one relay. */
export class EgressEngine {
  readonly #options: EgressEngineOptions;
  readonly #members = new Map<string, Member>();
  /** Members without a session, in the order in which they left. */
  readonly #absent = new Map<string, Member>();
  readonly #host: Host;

  constructor(options: EgressEngineOptions) {
    this.#options = options;
    this.#host = new Host(options);
  }

  /** How many flows of all clients are remembered. */
  get size(): number {
    return this.#host.size;
  }

  /**
   * Starts a session. Sessions of one identity share one client and the newest one's rules; an identity that was gone
   * for a short time finds its flows as they were. Each call wants one {@linkcode release}.
   */
  client(session: EgressSession): EgressClient {
    const known = this.#members.get(session.identity);
    if (known === undefined) {
      const client = new EgressClient(session, this.#host);
      this.#members.set(session.identity, { client, sessions: 1, leftAt: 0 });
      return client;
    }
    known.sessions++;
    this.#absent.delete(session.identity);
    known.client.setRules(session.rules);
    return known.client;
  }

  /** Ends a session. */
  release(client: EgressClient, now: number): void {
    const member = this.#members.get(client.identity);
    if (member?.client !== client || member.sessions === 0) return;
    member.sessions--;
    if (member.sessions > 0) return;
    member.leftAt = now;
    this.#absent.set(client.identity, member);
    if (this.#absent.size <= MAX_ABSENT) return;
    for (const oldest of this.#absent.values()) {
      this.#forget(oldest);
      break;
    }
  }

  /** Tells that addresses of a pool changed hands: flows to pools are judged again. */
  peersChanged(): void {
    this.#host.peersRevision++;
  }

  /** Forgets idle flows and absent clients; call it every second. A long backlog is worked off over several calls. */
  expire(now: number, onClosed: FlowClosed): void {
    for (const member of this.#absent.values()) {
      if (now - member.leftAt < ABSENCE) break;
      this.#forget(member);
    }
    for (const { flow, client } of this.#host.takeEvicted()) onClosed(flow, client);
    let closed = 0;
    for (const [identity, member] of this.#members) {
      for (
        let flow = member.client.takeExpired(now);
        flow !== undefined;
        flow = member.client.takeExpired(now)
      ) {
        onClosed(flow, member.client);
        if (++closed < MAX_CLOSED) continue;
        // Whoever has the most to forget goes last next time.
        this.#members.delete(identity);
        this.#members.set(identity, member);
        return;
      }
    }
  }

  #forget(member: Member): void {
    const { client } = member;
    this.#absent.delete(client.identity);
    this.#members.delete(client.identity);
    for (let flow = client.takeAny(); flow !== undefined; flow = client.takeAny()) {
      this.#host.evicted(flow, client);
    }
  }
}

interface Member {
  readonly client: EgressClient;
  sessions: number;
  leftAt: number;
}

interface Evicted {
  readonly flow: FlowEntry;
  readonly client: EgressClient;
}

class Host implements EgressHost {
  readonly peerAt: PeerResolver;
  readonly isOwnAddress: EgressHost["isOwnAddress"];
  readonly seed: number;
  readonly adoptsUntil: number;
  peersRevision = 0;
  size = 0;
  readonly #capacityPerClient: number;
  readonly #capacity: number;
  #evicted: Evicted[] = [];

  constructor(options: EgressEngineOptions) {
    const { capacityPerClient, capacity, identityAt, isOwnAddress, seed, adoptsUntil } = options;
    this.#capacityPerClient = capacityPerClient;
    this.#capacity = capacity;
    this.peerAt = identityAt ?? (() => undefined);
    this.isOwnAddress = isOwnAddress ?? (() => false);
    this.seed = seed ?? 0;
    this.adoptsUntil = adoptsUntil ?? -Infinity;
  }

  hasRoom(size: number): boolean {
    return size < this.#capacityPerClient && (size < RESERVED_FLOWS || this.size < this.#capacity);
  }

  count(change: 1 | -1): void {
    this.size += change;
  }

  evicted(flow: FlowEntry, client: EgressClient): void {
    if (this.#evicted.length < MAX_EVICTED) this.#evicted.push({ flow, client });
  }

  takeEvicted(): readonly Evicted[] {
    const evicted = this.#evicted;
    if (evicted.length > 0) this.#evicted = [];
    return evicted;
  }
}
