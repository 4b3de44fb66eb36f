/** The link of one relay to a controller in the same process; also what the HTTP routes put a remote relay through. */

import type { AuditFact } from "../../core/network/audit_entry.ts";
import type { AllocationOptions, SessionRecord, Store } from "../store.ts";
import type { SyncEvent, SyncPosition } from "./events.ts";
import type { Feed, Following } from "./feed.ts";
import {
  ControllerError,
  type ControllerLink,
  type LinkAllocation,
  MAX_REPORT_ENTRIES,
  type RelayReport,
} from "./link.ts";
import { sessionKey } from "./session_key.ts";

/** What a link needs. */
export interface LocalLinkOptions {
  /** SPIFFE ID of the relay: the reports are in its name, whatever they say. */
  readonly relay: string;
  /** Serial of the certificate the relay has shown: with it the stream ends when it is revoked. */
  readonly serial?: () => string | undefined;
  readonly feed: Feed;
  readonly store: Pick<
    Store,
    | "transaction"
    | "putSessions"
    | "putRelay"
    | "closeSessions"
    | "sessions"
    | "allocateAddress"
    | "refreshAddress"
    | "releaseAddress"
  >;
  /** Pools, reservations and lease time for an identity. */
  readonly allocation: (identity: string) => Omit<AllocationOptions, "now" | "metadata">;
  readonly workloads: { admit(spiffeId: string): Promise<boolean> };
  /** Milliseconds since the epoch. */
  readonly now: () => number;
}

/** What a relay may put into the audit log: never an administrator's deed. */
const RELAY_EVENTS: ReadonlySet<string> = new Set(["connect", "deny", "close"]);

/** How long a batch is remembered, in milliseconds: longer than any relay keeps one. */
const BATCH_MEMORY_MS = 90 * 86_400_000;

/** One relay's link. */
export class LocalLink implements ControllerLink {
  readonly #options: LocalLinkOptions;
  #following: Following | undefined;

  constructor(options: LocalLinkOptions) {
    this.#options = options;
  }

  async *follow(
    { since, signal }: { readonly since: SyncPosition | undefined; readonly signal: AbortSignal },
  ): AsyncIterable<SyncEvent> {
    signal.throwIfAborted();
    const { feed, relay, serial } = this.#options;
    const following = await feed.follow({ relay, since, serial: serial?.() });
    // A relay has one stream: what is left of an earlier one is a connection that it has given up.
    this.#following?.close();
    this.#following = following;
    const onAbort = () => following.close();
    signal.addEventListener("abort", onAbort, { once: true });
    try {
      if (signal.aborted) return;
      yield* following.events;
    } finally {
      signal.removeEventListener("abort", onAbort);
      following.close();
      if (this.#following === following) this.#following = undefined;
    }
  }

  wantViews(change: { readonly add: readonly string[]; readonly remove: readonly string[] }): Promise<void> {
    if (this.#following === undefined) {
      return Promise.reject(
        new ControllerError("ERR_CONTROLLER_REFUSED", "Cannot send views: this relay has no stream here", {
          hint: "Open the stream first",
        }),
      );
    }
    this.#following.want(change);
    return Promise.resolve();
  }

  async report({ batch, sessions, audit, status, isFirst }: RelayReport): Promise<void> {
    const { relay, store, now } = this.#options;
    if (sessions.length > MAX_REPORT_ENTRIES || audit.length > MAX_REPORT_ENTRIES) {
      throw new ControllerError("ERR_CONTROLLER_REFUSED", "Cannot take the report: it has too many entries");
    }
    const time = now();
    if (audit.length > 0) {
      await store.transaction(async (tx) => {
        if (!await tx.once(`report ${relay} ${batch}`, time + BATCH_MEMORY_MS)) return;
        for (const fact of audit) if (RELAY_EVENTS.has(fact.event)) await tx.audit(this.#own(fact, time));
      });
    }
    if (isFirst) await store.closeSessions(relay, time);
    if (sessions.length > 0) {
      await store.putSessions(sessions.map((session) => this.#ownSession(session)));
    }
    await store.putRelay({ ...status, identity: relay, lastSeenAt: time });
  }

  async allocate(
    identity: string,
    options: { readonly metadata?: Readonly<Record<string, unknown>> } = {},
  ): Promise<LinkAllocation> {
    const { store, feed, allocation, now } = this.#options;
    if (!feed.isEnabled(identity)) return { ok: false, fault: "unknown" };
    const { metadata } = options;
    return await store.allocateAddress(identity, {
      ...allocation(identity),
      now: now(),
      ...(metadata === undefined ? {} : { metadata }),
    });
  }

  async touch(identities: readonly string[]): Promise<void> {
    const { store, feed, relay, now } = this.#options;
    for (const identity of identities) {
      // Gone, and the notice of it may have been lost: this relay must not go on with that address.
      if (!await store.refreshAddress(identity, now())) feed.releasedAt(relay, identity);
    }
  }

  async release(identity: string): Promise<boolean> {
    const { store, relay } = this.#options;
    // Whoever is at another relay would lose its address there, at the word of one that has no say there.
    const { items } = await store.sessions({ identity, open: true, limit: 100 });
    if (items.some((session) => session.relay !== relay)) return false;
    return await store.releaseAddress(identity);
  }

  admitWorkload(spiffeId: string): Promise<boolean> {
    return this.#options.workloads.admit(spiffeId);
  }

  /** Ends the stream. */
  close(): void {
    this.#following?.close();
  }

  #own(fact: AuditFact, now: number): AuditFact {
    return { ...fact, time: Math.min(fact.time, now), source: this.#options.relay };
  }

  #ownSession(session: SessionRecord): SessionRecord {
    return { ...session, id: sessionKey(this.#options.relay, session.id), relay: this.#options.relay };
  }
}
