/**
 * Signs the views of the identities that relays want, and signs again only what changed or has lived half of its life.
 */

import { sleep } from "../../base/async.ts";
import { errorMessage } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { PolicySnapshot } from "../../core/policy/snapshot.ts";
import { type RightsView, sameRights } from "../../core/policy/rights_view.ts";
import { ViewCompiler } from "../../core/policy/view_compiler.ts";
import type { ServiceNetworkText } from "../../core/service/service_network.ts";
import type { Authority } from "../../identity/authority.ts";
import { signView } from "../../identity/view.ts";

/** What the service needs. */
export interface ViewServiceOptions {
  /** Who signs now: asked for each view. */
  readonly authority: () => Authority;
  /** Life of a view in milliseconds. */
  readonly ttl: number;
  /** How services appear on machines. */
  readonly services: ServiceNetworkText;
  readonly logger: Logger;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
}

/** A policy in force and what differs from the one before. */
export interface ViewUpdate {
  readonly policy: PolicySnapshot;
  readonly revision: number;
  /** SPIFFE IDs of all who may appear as peers. */
  readonly known: Iterable<string>;
  /** Identities whose entries changed, came or went; `all` when that is not known. */
  readonly changed: ReadonlySet<string> | "all";
}

/** Receives signed views of what it wants. */
export interface ViewSubscriber {
  views(views: readonly { readonly identity: string; readonly jws: string }[]): void;
}

/** Views signed at once, each for about half a millisecond: between two rounds other work gets its turn. */
const BATCH = 8;

/** Milliseconds between a change and its views. */
const UPDATE_PAUSE_MS = 10;

/** Views of one network. */
export class ViewService implements Disposable {
  readonly #options: ViewServiceOptions;
  readonly #compiler = new ViewCompiler();
  readonly #wanted = new Map<string, Wanted>();
  /** Identities whose views must be looked at. */
  readonly #due = new Set<string>();
  readonly #closing = new AbortController();
  readonly #timer: ReturnType<typeof setInterval>;
  /** The newest policy, which was not taken in yet. */
  #update: ViewUpdate | undefined;
  #revision = 0;
  #hasPolicy = false;
  #working: Promise<void> | undefined;

  constructor(options: ViewServiceOptions) {
    this.#options = options;
    const interval = Math.min(Math.max(1_000, options.ttl / 8), MAX_RENEWAL_CHECK_MS);
    this.#timer = setInterval(() => this.#review(this.#wanted.keys()), interval);
  }

  /** Takes a new policy; views that it changes follow. */
  update(update: ViewUpdate): void {
    const waiting = this.#update;
    this.#update = waiting === undefined
      ? update
      : { ...update, changed: join(waiting.changed, update.changed) };
    this.#working ??= this.#work();
  }

  /** Signs all views anew, as with a new authority. */
  renewAll(): void {
    for (const wanted of this.#wanted.values()) wanted.issuedAt = Number.NEGATIVE_INFINITY;
    this.#review(this.#wanted.keys());
  }

  /** Changes which views a subscriber gets: now and at each change. */
  want(
    subscriber: ViewSubscriber,
    { add, remove }: { readonly add: readonly string[]; readonly remove: readonly string[] },
  ): void {
    for (const identity of remove) this.#forget(subscriber, identity);
    const ready: { identity: string; jws: string }[] = [];
    for (const identity of add) {
      let wanted = this.#wanted.get(identity);
      if (wanted === undefined) {
        wanted = { subscribers: new Set(), rights: undefined, jws: undefined, issuedAt: 0, sequence: 0 };
        this.#wanted.set(identity, wanted);
      }
      wanted.subscribers.add(subscriber);
      if (wanted.jws !== undefined) ready.push({ identity, jws: wanted.jws });
    }
    if (ready.length > 0) subscriber.views(ready);
    this.#review(add);
  }

  /** Forgets a subscriber and all that only it wanted. */
  drop(subscriber: ViewSubscriber): void {
    for (const identity of [...this.#wanted.keys()]) this.#forget(subscriber, identity);
  }

  /** Resolves when nothing waits to be signed. */
  async settled(): Promise<void> {
    while (this.#working !== undefined) await this.#working;
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    this.#closing.abort();
    this.#wanted.clear();
    this.#due.clear();
  }

  #forget(subscriber: ViewSubscriber, identity: string): void {
    const wanted = this.#wanted.get(identity);
    if (!wanted?.subscribers.delete(subscriber) || wanted.subscribers.size > 0) return;
    this.#wanted.delete(identity);
    this.#due.delete(identity);
  }

  #review(identities: Iterable<string>): void {
    if (!this.#hasPolicy || this.#closing.signal.aborted) return;
    for (const identity of identities) this.#due.add(identity);
    if (this.#due.size > 0) this.#working ??= this.#work();
  }

  async #work(): Promise<void> {
    // What relays enforce goes out before what they pass on.
    await sleep(0);
    while (!this.#closing.signal.aborted && (this.#update !== undefined || this.#due.size > 0)) {
      if (this.#update !== undefined) await this.#takeUpdate();
      const batch: Promise<Signed | undefined>[] = [];
      for (const identity of this.#due) {
        if (batch.length >= BATCH) break;
        this.#due.delete(identity);
        const signing = this.#sign(identity);
        if (signing !== undefined) batch.push(signing);
      }
      if (batch.length > 0) {
        this.#publish((await Promise.all(batch)).filter((signed) => signed !== undefined));
        await sleep(0);
      }
    }
    this.#working = undefined;
  }

  async #takeUpdate(): Promise<void> {
    // Relays on the same machine work out the change meanwhile, and several changes in a row become one here.
    const { signal } = this.#closing;
    await sleep(UPDATE_PAUSE_MS, { signal }).catch(() => undefined);
    const { policy, revision, known, changed } = this.#update!;
    this.#update = undefined;
    for (const _step of this.#compiler.updateInSteps(policy, { known, changed })) {
      if (signal.aborted) return;
      await sleep(0);
    }
    this.#revision = revision;
    this.#hasPolicy = true;
    for (const identity of this.#wanted.keys()) this.#due.add(identity);
  }

  /** Signs a view unless the one that is out still says what is right; undefined then. */
  #sign(identity: string): Promise<Signed | undefined> | undefined {
    const { authority, ttl, services, logger, now } = this.#options;
    const wanted = this.#wanted.get(identity);
    if (wanted === undefined) return undefined;
    const rights = this.#compiler.rightsOf(identity);
    const issuedAt = now();
    const isSame = wanted.rights !== undefined && sameRights(wanted.rights, rights);
    wanted.rights = rights;
    if (isSame && issuedAt - wanted.issuedAt < ttl / 2) return undefined;
    wanted.issuedAt = issuedAt;
    const sequence = ++wanted.sequence;
    const view = {
      rev: this.#revision,
      sub: identity,
      iat: Math.floor(issuedAt / 1000),
      exp: Math.floor((issuedAt + ttl) / 1000),
      services,
      ...rights,
    };
    return signView({ authority: authority(), view }).then(
      (jws) => ({ identity, wanted, sequence, jws }),
      (error) => {
        logger.error("view_not_signed", { identity, detail: errorMessage(error) });
        // Tried again with the next look at what is due.
        wanted.rights = undefined;
        return undefined;
      },
    );
  }

  #publish(signed: readonly Signed[]): void {
    const bySubscriber = new Map<ViewSubscriber, { identity: string; jws: string }[]>();
    for (const { identity, wanted, sequence, jws } of signed) {
      // Signing takes turns: an older view that finishes later must not overtake a newer one.
      if (wanted.sequence !== sequence) continue;
      wanted.jws = jws;
      for (const subscriber of wanted.subscribers) {
        const views = bySubscriber.get(subscriber) ?? [];
        bySubscriber.set(subscriber, views);
        views.push({ identity, jws });
      }
    }
    for (const [subscriber, views] of bySubscriber) subscriber.views(views);
  }
}

function join(first: ViewUpdate["changed"], second: ViewUpdate["changed"]): ViewUpdate["changed"] {
  return first === "all" || second === "all" ? "all" : first.union(second);
}

/** Milliseconds between two looks for views that have lived half of their life, at most. */
const MAX_RENEWAL_CHECK_MS = 60_000;

interface Wanted {
  readonly subscribers: Set<ViewSubscriber>;
  /** What the last view granted, to tell whether a new one differs. */
  rights: RightsView | undefined;
  jws: string | undefined;
  /** Milliseconds since the epoch. */
  issuedAt: number;
  /** Counts signatures. */
  sequence: number;
}

interface Signed {
  readonly identity: string;
  readonly wanted: Wanted;
  readonly sequence: number;
  readonly jws: string;
}
