/**
 * The authority embedded in a relay: compiles each connected identity's view, signs it, and pushes it when it
 * changes or before it expires.
 */

import type { Logger } from "../../base/log.ts";
import { errorMessage } from "../../base/errors.ts";
import type { PolicySnapshot } from "../../core/policy/snapshot.ts";
import { compileView, type ViewClaims } from "../../core/policy/view.ts";
import type { Authority } from "../../identity/authority.ts";
import { signView } from "../../identity/view.ts";

/** What a publisher needs. */
export interface ViewPublisherOptions {
  readonly authority: Authority;
  /** Life of a view in milliseconds. */
  readonly ttl: number;
  readonly snapshot: () => PolicySnapshot;
  /** SPIFFE IDs connected now. */
  readonly connected: () => Iterable<string>;
  readonly logger: Logger;
}

/** Receives signed views, newest last; a slow subscriber may skip older ones. */
export type ViewSink = (jws: string) => void;

/** Signs and pushes views. */
export class ViewPublisher {
  readonly #options: ViewPublisherOptions;
  readonly #subscribers = new Set<Subscriber>();
  readonly #timer: ReturnType<typeof setInterval>;
  #revision = 0;
  #scheduled = false;

  constructor(options: ViewPublisherOptions) {
    this.#options = options;
    // A view is renewed at half of its life, checked often enough that none is missed.
    this.#timer = setInterval(() => this.#publishAll(Date.now()), Math.max(1_000, options.ttl / 8));
  }

  /** Pushes the view of `id` now and at every change; returns the way to stop. */
  subscribe(id: string, sink: ViewSink): () => void {
    const subscriber: Subscriber = { id, sink, rights: "", issuedAt: 0 };
    this.#subscribers.add(subscriber);
    this.#publish(subscriber, Date.now());
    return () => this.#subscribers.delete(subscriber);
  }

  /** Compiles every view again, soon and once for many calls; only changed ones are signed and pushed. */
  refresh(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    queueMicrotask(() => {
      this.#scheduled = false;
      this.#publishAll(Date.now());
    });
  }

  close(): void {
    clearInterval(this.#timer);
    this.#subscribers.clear();
  }

  #publishAll(now: number): void {
    for (const subscriber of this.#subscribers) this.#publish(subscriber, now);
  }

  #publish(subscriber: Subscriber, now: number): void {
    const { ttl, snapshot, connected, authority, logger } = this.#options;
    // Revisions grow also over restarts, since a node refuses a view older than the one it holds.
    this.#revision = Math.max(this.#revision + 1, now);
    const view = compileView(snapshot(), subscriber.id, {
      revision: this.#revision,
      now,
      ttl,
      knownIdentities: connected(),
    });
    const rights = rightsOf(view);
    if (rights === subscriber.rights && now - subscriber.issuedAt < ttl / 2) return;
    subscriber.rights = rights;
    subscriber.issuedAt = now;
    signView({ authority, view }).then(
      (jws) => {
        // Signing takes turns: an older view that finishes later must not overtake a newer one.
        if (view.rev < (subscriber.sent ?? 0) || !this.#subscribers.has(subscriber)) return;
        subscriber.sent = view.rev;
        subscriber.sink(jws);
      },
      (error) => logger.error("view_not_signed", { identity: subscriber.id, detail: errorMessage(error) }),
    );
  }
}

interface Subscriber {
  readonly id: string;
  readonly sink: ViewSink;
  rights: string;
  issuedAt: number;
  sent?: number;
}

function rightsOf(view: ViewClaims): string {
  return JSON.stringify([view.dial, view.bind]);
}
