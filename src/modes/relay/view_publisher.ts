/**
 * The authority embedded in a relay: compiles each connected identity's view, signs it, and pushes it when it
 * changes or before it expires.
 */

import type { Logger } from "../../base/log.ts";
import { errorMessage } from "../../base/errors.ts";
import type { PolicySnapshot } from "../../core/policy/snapshot.ts";
import { createViewCompiler, type ViewClaims } from "../../core/policy/view.ts";
import type { ServiceNetworkText } from "../../core/service/service_network.ts";
import type { Authority } from "../../identity/authority.ts";
import { signView } from "../../identity/view.ts";

/** What a publisher needs. */
export interface ViewPublisherOptions {
  readonly authority: Authority;
  /** Life of a view in milliseconds. */
  readonly ttl: number;
  readonly snapshot: () => PolicySnapshot;
  /** How services appear on machines. */
  readonly services: ServiceNetworkText;
  /** SPIFFE IDs connected now. */
  readonly connected: () => Iterable<string>;
  readonly logger: Logger;
}

/** Receives signed views, newest last; a slow subscriber may skip older ones. */
export type ViewSink = (jws: string) => void;

/** Milliseconds in which several changes become one round of views. */
const REFRESH_DELAY_MS = 5;

/** Signs and pushes views. */
export class ViewPublisher {
  readonly #options: ViewPublisherOptions;
  readonly #subscribers = new Set<Subscriber>();
  readonly #timer: ReturnType<typeof setInterval>;
  #revision = 0;
  #scheduled: "all" | "binders" | undefined;

  constructor(options: ViewPublisherOptions) {
    this.#options = options;
    // A view is renewed at half of its life, checked often enough that none is missed.
    this.#timer = setInterval(() => this.#publishAll(Date.now()), Math.max(1_000, options.ttl / 8));
  }

  /** Pushes the view of `id` now and at every change; returns the way to stop. */
  subscribe(id: string, sink: ViewSink): () => void {
    const subscriber: Subscriber = { id, sink, rights: "", issuedAt: 0, binds: false, sent: 0 };
    this.#subscribers.add(subscriber);
    const now = Date.now();
    this.#publish(subscriber, { compile: this.#compiler(now), now });
    return () => this.#subscribers.delete(subscriber);
  }

  /**
   * Compiles views again, soon and once for many calls; only changed ones are signed and pushed. `binders`: only
   * those who offer services, which is all that a newly connected caller changes.
   */
  refresh(scope: "all" | "binders" = "all"): void {
    const isScheduled = this.#scheduled !== undefined;
    if (!isScheduled || scope === "all") this.#scheduled = scope;
    if (!isScheduled) setTimeout(() => this.#publishAll(Date.now()), REFRESH_DELAY_MS);
  }

  close(): void {
    clearInterval(this.#timer);
    this.#subscribers.clear();
  }

  #publishAll(now: number): void {
    const scope = this.#scheduled ?? "all";
    this.#scheduled = undefined;
    const compile = this.#compiler(now);
    for (const subscriber of this.#subscribers) {
      if (scope === "all" || subscriber.binds) this.#publish(subscriber, { compile, now });
    }
  }

  #compiler(now: number): (id: string) => ViewClaims {
    const { snapshot, connected, ttl, services } = this.#options;
    // Revisions grow also over restarts, since a node refuses a view older than the one it holds.
    this.#revision = Math.max(this.#revision + 1, now);
    return createViewCompiler(snapshot(), {
      revision: this.#revision,
      now,
      ttl,
      services,
      knownIdentities: connected(),
    });
  }

  #publish(
    subscriber: Subscriber,
    { compile, now }: { compile: (id: string) => ViewClaims; now: number },
  ): void {
    const { ttl, authority, logger } = this.#options;
    const view = compile(subscriber.id);
    const rights = JSON.stringify([view.dial, view.bind]);
    if (rights === subscriber.rights && now - subscriber.issuedAt < ttl / 2) return;
    subscriber.rights = rights;
    subscriber.issuedAt = now;
    subscriber.binds = view.bind.length > 0;
    signView({ authority, view }).then(
      (jws) => {
        // Signing takes turns: an older view that finishes later must not overtake a newer one.
        if (view.rev < subscriber.sent || !this.#subscribers.has(subscriber)) return;
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
  /** What the last view granted, to tell whether a new one differs. */
  rights: string;
  /** Milliseconds since the epoch. */
  issuedAt: number;
  /** Whether it may offer services. */
  binds: boolean;
  /** Revision of the last view pushed. */
  sent: number;
}
