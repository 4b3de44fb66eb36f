/**
 * The controller's side of the synchronisation: follows the database and tells each relay what changed, the views it
 * wants, and the network document.
 */

import { sleep } from "../../base/async.ts";
import { errorMessage } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { NetworkChange } from "../../core/network/changes.ts";
import { toPolicyDocument } from "../../core/network/policy_document.ts";
import { EPOCH_SETTING } from "../../core/network/epoch.ts";
import type { NetworkState } from "../../core/network/state.ts";
import { compilePolicy, type PolicySnapshot } from "../../core/policy/snapshot.ts";
import type { Notice, Store } from "../store.ts";
import type { NetworkPublisher } from "../views/network_publisher.ts";
import type { ViewService } from "../views/view_service.ts";
import { HEARTBEAT_DEADLINE_MS, HEARTBEAT_MS, type SyncPosition } from "./events.ts";
import { FeedStream } from "./feed_stream.ts";
import { sessionAtRelay } from "./session_key.ts";
import { NetworkModel, type NetworkSurroundings, RELAY_KINDS } from "./network_model.ts";

/** What the feed needs. */
export interface FeedOptions {
  readonly store: Pick<
    Store,
    "readAll" | "changesSince" | "onChange" | "onNotice" | "revokedSerials" | "initSetting" | "getSetting"
  >;
  /** Asked again at each {@linkcode Feed.refresh} and now and then. */
  readonly surroundings: () => Omit<NetworkSurroundings, "revoked">;
  readonly views: ViewService;
  readonly network: NetworkPublisher;
  readonly logger: Logger;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
}

/** Milliseconds between looks at what announces itself to nobody: revocations, and changes whose notice was lost. */
const POLL_MS = 500;

/** Who follows, from where on. */
export interface Follower {
  /** SPIFFE ID of the relay. */
  readonly relay: string;
  readonly since: SyncPosition | undefined;
  /** Serial of its certificate. */
  readonly serial?: string | undefined;
}

/** One follower: what it is told, and how it says what it wants. */
export interface Following {
  readonly events: FeedStream;
  want(change: { readonly add: readonly string[]; readonly remove: readonly string[] }): void;
  close(): void;
}

/** Tells all relays of one controller about the network. */
export class Feed implements AsyncDisposable {
  readonly #options: FeedOptions;
  readonly #followers = new Map<string, Map<FeedStream, string | undefined>>();
  readonly #listeners = new Set<() => void>();
  readonly #stopListening: readonly (() => void)[];
  readonly #timers: readonly ReturnType<typeof setInterval>[];
  #epoch: string;
  #model: NetworkModel;
  #policy: PolicySnapshot | undefined;
  /** SPIFFE IDs of all enabled identities. */
  #known: ReadonlySet<string> = new Set();
  /** The network's CAs when streams were last judged. */
  #roots: readonly string[] = [];
  /** When the database was last read. */
  #readAt: number;
  #isStale = false;
  #isClosed = false;
  #pulling: Promise<void> | undefined;

  /** Reads the network. */
  static async open(options: FeedOptions): Promise<Feed> {
    const epoch = await options.store.initSetting(EPOCH_SETTING, crypto.randomUUID());
    const feed = new Feed(options, { epoch, model: await readModel(options) });
    await feed.#derive("all");
    return feed;
  }

  private constructor(options: FeedOptions, parts: { epoch: string; model: NetworkModel }) {
    this.#options = options;
    this.#epoch = parts.epoch;
    this.#model = parts.model;
    this.#readAt = options.now();
    const { store } = options;
    this.#stopListening = [
      store.onChange(() => void this.refresh()),
      store.onNotice((notice) => this.#heed(notice)),
    ];
    this.#timers = [
      setInterval(() => void this.refresh(), POLL_MS),
      setInterval(() => this.#beat(), HEARTBEAT_MS),
    ];
  }

  /** The network as last read. */
  get state(): NetworkState {
    return this.#model.state;
  }

  /** Who may do what, as last read. */
  get policy(): PolicySnapshot {
    return this.#policy!;
  }

  /** The signed network document. */
  get networkJws(): string | undefined {
    return this.#options.network.jws;
  }

  /** SPIFFE IDs of the relays that follow now. */
  get followers(): readonly string[] {
    return [...this.#followers.keys()];
  }

  /** Starts telling a relay everything that it does not know at `since`. */
  async follow({ relay, since, serial }: Follower): Promise<Following> {
    const events = new FeedStream({
      position: () => ({ epoch: this.#epoch, revision: this.state.revision }),
      state: () => this.state,
    });
    const resumed = since === undefined ? undefined : await this.#touchedSince(since);
    if (resumed === undefined) events.snapshot();
    else events.change(this.#model.current(resumed));
    const { jws } = this.#options.network;
    if (jws !== undefined) events.network(jws);
    events.heartbeat(this.#options.now());
    const streams = this.#followers.get(relay) ?? new Map<FeedStream, string | undefined>();
    this.#followers.set(relay, streams.set(events, serial));
    this.#options.logger.info("relay_follows", { relay, resumed: resumed !== undefined });
    return {
      events,
      want: (change) => {
        for (const identity of change.remove) events.dropView(identity);
        this.#options.views.want(events, change);
      },
      close: () => this.#leave(relay, events),
    };
  }

  /** Reads what is new in the database, and the surroundings; resolves when relays have been told. */
  refresh(): Promise<void> {
    this.#isStale = true;
    return this.#pulling ??= this.#pull();
  }

  /** Tells one relay that it holds addresses that are not its client's any more. */
  releasedAt(relay: string, identity: string): void {
    for (const stream of this.#followers.get(relay)?.keys() ?? []) stream.release(identity);
  }

  /** Whether an identity (a SPIFFE ID) exists and is enabled. */
  isEnabled(identity: string): boolean {
    return this.#known.has(identity);
  }

  /** Calls back after each change of the state; returns the way to stop. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Ends all streams. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true;
    for (const stop of this.#stopListening) stop();
    for (const timer of this.#timers) clearInterval(timer);
    for (const stream of this.#streams()) stream.close();
    await this.#pulling;
  }

  /** Passes on to relays what any controller announces. */
  #heed(notice: Notice): void {
    if (notice.type === "released") {
      for (const stream of this.#streams()) stream.release(notice.clientId);
      return;
    }
    const { relay, session } = notice;
    for (const stream of this.#followers.get(relay)?.keys() ?? []) stream.end(sessionAtRelay(relay, session));
  }

  async #pull(): Promise<void> {
    while (this.#isStale && !this.#isClosed) {
      this.#isStale = false;
      try {
        await this.#read();
        this.#readAt = this.#options.now();
      } catch (error) {
        // The next change or the next poll tries again; relays go on with what they have.
        this.#options.logger.error("feed_read_failed", { detail: errorMessage(error) });
      }
    }
    this.#pulling = undefined;
  }

  async #read(): Promise<void> {
    const { store, surroundings, now } = this.#options;
    const before = this.state.revision;
    const [epoch, news, revoked] = await Promise.all([
      store.getSetting(EPOCH_SETTING),
      store.changesSince(before),
      store.revokedSerials(now()),
    ]);
    if (this.#isClosed) return;
    if (news === undefined || news.revision < before || epoch !== this.#epoch) {
      this.#epoch = epoch ?? await store.initSetting(EPOCH_SETTING, crypto.randomUUID());
      this.#model = await readModel(this.#options);
      for (const stream of this.#streams()) stream.snapshot();
      await this.#derive("all");
      return;
    }
    const known = this.state.identities;
    const changes = [
      ...(news.changes.length === 0 ? [] : this.#model.apply(news)),
      ...this.#model.surround({ ...surroundings(), revoked }),
    ];
    if (this.state.revision === before && changes.length === 0) {
      await this.#publishNetwork();
      return;
    }
    // Also a revision without anything for relays is told: they say how far they are.
    for (const stream of this.#streams()) stream.change(changes);
    // It leaves before anything is worked out here: relays do their own part meanwhile.
    await sleep(0);
    if (this.#isClosed) return;
    await this.#derive(changedIdentities(changes, [known, this.state.identities]));
  }

  /** Works out what follows from the state: policy, views, network document. */
  async #derive(changed: ReadonlySet<string> | "all"): Promise<void> {
    const { state } = this;
    const document = toPolicyDocument(state);
    this.#policy = compilePolicy(document, {
      trustDomain: state.trustDomain,
      declaredOnly: true,
      ...(this.#policy === undefined ? {} : { previous: this.#policy }),
    });
    const before = this.#known;
    this.#known = new Set(document.identities.map(({ id }) => id!));
    this.#endStreams(before);
    const update = { policy: this.#policy, revision: state.revision, known: this.#known, changed };
    this.#options.views.update(update);
    for (const listener of this.#listeners) listener();
    await this.#publishNetwork();
  }

  /**
   * Ends the streams of relays that were disabled or removed, or whose certificate was revoked. When a CA is retired, all
   * that were begun by showing a certificate: whoever has one of another CA is back in a moment.
   */
  #endStreams(before: ReadonlySet<string>): void {
    const { roots, revoked } = this.state;
    const isRetired = this.#roots.some((root) => !roots.includes(root));
    this.#roots = roots;
    for (const [relay, streams] of this.#followers) {
      const isGone = before.has(relay) && !this.#known.has(relay);
      for (const [stream, serial] of streams) {
        if (isGone || (serial !== undefined && (isRetired || revoked.has(serial)))) stream.close();
      }
    }
  }

  async #publishNetwork(): Promise<void> {
    try {
      const jws = await this.#options.network.publish(this.state);
      if (jws === undefined) return;
      for (const stream of this.#streams()) stream.network(jws);
    } catch (error) {
      this.#options.logger.error("network_document_not_signed", { detail: errorMessage(error) });
    }
  }

  /** Resources that changed since a follower last heard; undefined when that cannot be told. */
  async #touchedSince(since: SyncPosition) {
    if (since.epoch !== this.#epoch || since.revision > this.state.revision) return undefined;
    const news = await this.#options.store.changesSince(since.revision);
    return news?.changes;
  }

  #leave(relay: string, events: FeedStream): void {
    events.close();
    this.#options.views.drop(events);
    const streams = this.#followers.get(relay);
    if (!streams?.delete(events)) return;
    if (streams.size === 0) this.#followers.delete(relay);
    this.#options.logger.info("relay_left", { relay });
  }

  #beat(): void {
    const time = this.#options.now();
    // A controller cut off from its database knows no more than its relays do: another one may.
    const isCutOff = time - this.#readAt > HEARTBEAT_DEADLINE_MS;
    for (const stream of this.#streams()) {
      if (isCutOff) stream.close();
      else stream.heartbeat(time);
    }
  }

  *#streams(): Iterable<FeedStream> {
    for (const streams of this.#followers.values()) yield* streams.keys();
  }
}

async function readModel({ store, surroundings, now }: FeedOptions): Promise<NetworkModel> {
  // Serials first: one that is revoked in between is found by the next look, one that expires does no harm.
  const revoked = await store.revokedSerials(now());
  return new NetworkModel({ ...surroundings(), revoked }, await store.readAll(RELAY_KINDS));
}

/** SPIFFE IDs of the identities that changed, as they were and as they are. */
function changedIdentities(
  changes: readonly NetworkChange[],
  states: readonly NetworkState["identities"][],
): ReadonlySet<string> | "all" {
  const ids = new Set<string>();
  for (const change of changes) {
    // Its rules give attributes to workloads, which ones is not worth finding out.
    if (change.kind === "trust-domain") return "all";
    if (change.kind !== "identity") continue;
    for (const state of states) {
      const spec = state.get(change.id)?.spec;
      if (spec !== undefined) ids.add(spec.spiffeId);
    }
  }
  return ids;
}
