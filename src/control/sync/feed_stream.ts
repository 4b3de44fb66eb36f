/**
 * One follower's stream. It holds what the follower has not been told, merged: a slow follower costs no more memory
 * than one copy of the differences, and when those are many it gets a snapshot instead.
 */

import type { NetworkChange } from "../../core/network/changes.ts";
import type { NetworkState } from "../../core/network/state.ts";
import type { SignedView, SyncEvent, SyncPosition } from "./events.ts";

/** Differences beyond which a snapshot is cheaper. */
const MAX_CHANGES = 2_000;

/** Views told in one event, and about how many characters of them. */
const MAX_VIEWS = 64;
const MAX_VIEWS_LENGTH = 4 << 20;

/** Events of one follower, newest knowledge first come. */
export class FeedStream implements AsyncIterable<SyncEvent> {
  readonly #changes = new Map<string, NetworkChange>();
  readonly #views = new Map<string, SignedView>();
  readonly #released = new Set<string>();
  readonly #ended = new Set<string>();
  readonly #position: () => SyncPosition;
  readonly #state: () => NetworkState;
  #needsSnapshot = false;
  #hasChanges = false;
  #network: string | undefined;
  #heartbeat: number | undefined;
  #isClosed = false;
  #wake: (() => void) | undefined;

  /** `position` and `state` are asked when something is told, so that a snapshot is never old. */
  constructor(source: { readonly position: () => SyncPosition; readonly state: () => NetworkState }) {
    this.#position = source.position;
    this.#state = source.state;
  }

  /** Tells everything anew. */
  snapshot(): void {
    this.#needsSnapshot = true;
    this.#changes.clear();
    this.#notify();
  }

  /** Tells what changed; also that nothing did. */
  change(changes: readonly NetworkChange[]): void {
    if (!this.#needsSnapshot) {
      for (const change of changes) {
        const key = "id" in change ? `${change.kind} ${change.id}` : change.kind;
        this.#changes.set(key, change);
      }
      this.#hasChanges = true;
      if (this.#changes.size > MAX_CHANGES) return this.snapshot();
    }
    this.#notify();
  }

  /** Tells new views; of two for one identity only the later. */
  views(views: readonly SignedView[]): void {
    for (const view of views) this.#views.set(view.identity, view);
    this.#notify();
  }

  /** No longer tells a view that waits. */
  dropView(identity: string): void {
    this.#views.delete(identity);
  }

  /** Tells a new network document. */
  network(jws: string): void {
    this.#network = jws;
    this.#notify();
  }

  /** Tells that an identity gave up its addresses. */
  release(identity: string): void {
    this.#released.add(identity);
    this.#notify();
  }

  /** Tells that a session was ended. */
  end(session: string): void {
    this.#ended.add(session);
    this.#notify();
  }

  /** Tells that the controller lives. */
  heartbeat(time: number): void {
    this.#heartbeat = time;
    this.#notify();
  }

  /** Ends the stream. */
  close(): void {
    this.#isClosed = true;
    this.#notify();
  }

  async *[Symbol.asyncIterator](): AsyncIterator<SyncEvent> {
    try {
      while (!this.#isClosed) {
        const event = this.#next();
        if (event !== undefined) yield event;
        else {
          const { promise, resolve } = Promise.withResolvers<void>();
          this.#wake = resolve;
          await promise;
        }
      }
    } finally {
      this.#isClosed = true;
    }
  }

  /** What a follower enforces comes before what it only passes on. */
  #next(): SyncEvent | undefined {
    const { epoch, revision } = this.#position();
    if (this.#needsSnapshot) {
      this.#needsSnapshot = false;
      this.#hasChanges = false;
      return { type: "snapshot", epoch, state: this.#state() };
    }
    if (this.#hasChanges) {
      const changes = [...this.#changes.values()];
      this.#changes.clear();
      this.#hasChanges = false;
      return { type: "changes", revision, changes };
    }
    for (const identity of this.#released) {
      this.#released.delete(identity);
      return { type: "released", identity };
    }
    for (const session of this.#ended) {
      this.#ended.delete(session);
      return { type: "ended", session };
    }
    if (this.#network !== undefined) {
      const jws = this.#network;
      this.#network = undefined;
      return { type: "network", jws };
    }
    if (this.#views.size > 0) return { type: "views", views: this.#takeViews() };
    if (this.#heartbeat !== undefined) {
      const time = this.#heartbeat;
      this.#heartbeat = undefined;
      return { type: "heartbeat", revision, time };
    }
    return undefined;
  }

  #takeViews(): SignedView[] {
    const taken: SignedView[] = [];
    let length = 0;
    for (const view of this.#views.values()) {
      if (taken.length >= MAX_VIEWS || length >= MAX_VIEWS_LENGTH) break;
      length += view.jws.length;
      taken.push(view);
      this.#views.delete(view.identity);
    }
    return taken;
  }

  #notify(): void {
    this.#wake?.();
    this.#wake = undefined;
  }
}
