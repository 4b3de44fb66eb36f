/**
 * The relay's side of the synchronisation: knows the network as its controller states it, keeps up with it, and goes on
 * with what it knows while the controller is away.
 */

import { backoffDelay, sleep } from "../../base/async.ts";
import { errorCode, errorMessage } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import { applyChanges } from "../../core/network/apply.ts";
import { foreignTrust } from "../../core/network/foreign_trust.ts";
import { toPolicyDocument } from "../../core/network/policy_document.ts";
import type { NetworkState } from "../../core/network/state.ts";
import type { PolicyDocument } from "../../core/policy/document.ts";
import { compilePolicy, type PolicySnapshot } from "../../core/policy/snapshot.ts";
import { HEARTBEAT_DEADLINE_MS, type SyncEvent } from "./events.ts";
import type { ControllerLink } from "./link.ts";
import { ViewDesk } from "./view_desk.ts";

/** What a follower knows, as it rests on disk. */
export interface KnownNetwork {
  readonly epoch: string;
  readonly state: NetworkState;
  /** The signed network document. */
  readonly network: string | undefined;
}

/** Where a follower keeps what it knows. Saving never waits and never throws. */
export interface FollowerCache {
  /** Undefined when there is nothing, or nothing that can be read. */
  load(): Promise<
    | (KnownNetwork & {
      readonly views: ReadonlyMap<string, string>;
      /** When a controller was last heard of, milliseconds since the epoch. */
      readonly heardAt: number | undefined;
    })
    | undefined
  >;
  save(known: KnownNetwork): void;
  saveViews(views: readonly { readonly identity: string; readonly jws: string }[]): void;
  /** Told at each event. */
  heard(time: number): void;
}

/** What changed. */
export type NetworkPart =
  /** Rights, attributes, or who exists. */
  | "policy"
  /** The egress document, or the pools. */
  | "egress"
  /** CAs, foreign trust domains, revoked certificates. */
  | "trust"
  /** The signed network document. */
  | "network";

/** How to follow. */
export interface NetworkFollowerOptions {
  readonly link: ControllerLink;
  readonly cache: FollowerCache | undefined;
  /** A network of another name is refused. */
  readonly trustDomain: string;
  readonly logger: Logger;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  /** Ends the wait for a controller at the start. */
  readonly signal?: AbortSignal;
  /** Milliseconds to wait for a controller before what is on disk has to do; default 2,000. */
  readonly patience?: number;
}

/** How fresh it is. */
export interface FollowerStatus {
  /** Whether a controller tells what changes. */
  readonly connected: boolean;
  readonly revision: number;
  /** Milliseconds since a controller was heard of; undefined: what is known came from the disk, which does not tell. */
  readonly ageMs: number | undefined;
  /** Why it is not connected, for people. */
  readonly problem?: string;
}

const DEFAULT_PATIENCE_MS = 2_000;

/** Longest time between attempts to reach a controller, in milliseconds. */
const MAX_RETRY_MS = 5_000;

/** Milliseconds a workload that was just admitted may take to be known here. */
const ADMISSION_MS = 2_000;

/** Follows a controller. */
export class NetworkFollower implements AsyncDisposable {
  readonly #options: NetworkFollowerOptions;
  readonly #closing = new AbortController();
  readonly #listeners = new Set<(what: ReadonlySet<NetworkPart>) => void>();
  readonly #onReleased = new Set<(identity: string) => void>();
  readonly #onEnded = new Set<(session: string) => void>();
  readonly #onConnected = new Set<() => void>();
  readonly #onRestored = new Set<() => void>();
  readonly #views: ViewDesk;
  readonly #first = Promise.withResolvers<void>();
  #known: KnownNetwork | undefined;
  #policy: PolicySnapshot | undefined;
  /** SPIFFE IDs of all enabled identities. */
  #identities: ReadonlySet<string> = new Set();
  /** The list that {@linkcode #identities} are of. */
  #listed: PolicyDocument["identities"] | undefined;
  #isConnected = false;
  #heardAt: number | undefined;
  #problem: string | undefined;
  #running: Promise<void> = Promise.resolve();

  /**
   * Starts to follow; resolves once the network is known, from a controller or, when none answers soon, from disk.
   * Without either it waits, and says so in the log.
   */
  static async open(options: NetworkFollowerOptions): Promise<NetworkFollower> {
    const follower = new NetworkFollower(options);
    await follower.#start();
    return follower;
  }

  private constructor(options: NetworkFollowerOptions) {
    this.#options = options;
    const { link, now, logger } = options;
    this.#views = new ViewDesk({ want: (change) => link.wantViews(change), now, logger });
  }

  /** The network as last stated. */
  get state(): NetworkState {
    return this.#known!.state;
  }

  /** Who may do what; identities that are not known have no rights. */
  get policy(): PolicySnapshot {
    return this.#policy!;
  }

  /** The active egress policy's document, in the shape of egress policy files. */
  get egressDocument(): NetworkState["egress"] {
    return this.state.egress;
  }

  /** The network's CA certificates, PEM, the issuing one first. */
  get roots(): readonly string[] {
    return this.state.roots;
  }

  /** Foreign trust domains and their CAs. */
  get foreign(): readonly { readonly domain: string; readonly roots: readonly string[] }[] {
    return foreignTrust(this.state);
  }

  /** Serials of revoked certificates, upper-case hexadecimal. */
  get revoked(): ReadonlySet<string> {
    return this.state.revoked;
  }

  /** The signed network document, for nodes; undefined while it was not told. */
  get networkJws(): string | undefined {
    return this.#known?.network;
  }

  /** Whether an identity (a SPIFFE ID) exists and is enabled; its serial, when given, not revoked. */
  isAdmitted(identity: string, serial?: string): boolean {
    return this.#identities.has(identity) && (serial === undefined || !this.state.revoked.has(serial));
  }

  /** As {@linkcode isAdmitted}; a workload that is not known yet is asked for. */
  async admits(identity: string, serial?: string): Promise<boolean> {
    if (this.isAdmitted(identity)) return this.isAdmitted(identity, serial);
    const isForeign = !identity.startsWith(`spiffe://${this.#options.trustDomain}/`);
    if (!isForeign) return false;
    try {
      if (!await this.#options.link.admitWorkload(identity)) return false;
    } catch (error) {
      this.#options.logger.warn("workload_not_admitted", { identity, reason: errorCode(error) });
      return false;
    }
    await this.#waitUntil(() => this.isAdmitted(identity), ADMISSION_MS);
    return this.isAdmitted(identity, serial);
  }

  /** Calls back after each change, with what it was about; returns the way to stop. */
  onChange(listener: (what: ReadonlySet<NetworkPart>) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Calls back when an identity's addresses are no longer its own. */
  onReleased(listener: (identity: string) => void): () => void {
    this.#onReleased.add(listener);
    return () => this.#onReleased.delete(listener);
  }

  /** Calls back when an administrator ended a session. */
  onSessionEnded(listener: (session: string) => void): () => void {
    this.#onEnded.add(listener);
    return () => this.#onEnded.delete(listener);
  }

  /** Calls back whenever a controller was reached that was away; returns the way to stop. */
  onConnected(listener: () => void): () => void {
    this.#onConnected.add(listener);
    return () => this.#onConnected.delete(listener);
  }

  /** Calls back when controllers tell another history than before: they have forgotten what they heard since. */
  onRestored(listener: () => void): () => void {
    this.#onRestored.add(listener);
    return () => this.#onRestored.delete(listener);
  }

  /**
   * Passes on the signed view of an identity, now and at each change; while no controller is there, the last one that
   * is still valid. Returns the way to stop.
   */
  subscribeView(identity: string, sink: (jws: string) => void): () => void {
    return this.#views.subscribe(identity, sink);
  }

  /** How fresh what is known is. */
  status(): FollowerStatus {
    const { now } = this.#options;
    const ageMs = this.#heardAt === undefined ? undefined : Math.max(0, now() - this.#heardAt);
    return {
      connected: this.#isConnected,
      revision: this.#known?.state.revision ?? 0,
      ageMs,
      ...(this.#problem === undefined ? {} : { problem: this.#problem }),
    };
  }

  /** Stops following. */
  async close(): Promise<void> {
    this.#closing.abort();
    this.#views.close();
    await this.#running;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #start(): Promise<void> {
    const { cache, logger, trustDomain, signal, patience = DEFAULT_PATIENCE_MS } = this.#options;
    const cached = await cache?.load();
    if (cached !== undefined && cached.state.trustDomain !== trustDomain) {
      logger.warn("network_cache_of_another_network", { trustDomain: cached.state.trustDomain });
    } else if (cached !== undefined) {
      this.#take(cached);
      this.#heardAt = cached.heardAt;
      for (const [identity, jws] of cached.views) this.#views.remember(identity, jws);
    }
    this.#running = this.#run();
    const waiting = this.#first.promise.then(() => true);
    if (this.#known !== undefined) {
      const isFresh = await Promise.race([waiting, this.#pause(patience, signal)]);
      if (!isFresh) logger.warn("network_from_disk", { ...this.status() });
    } else {
      while (!await Promise.race([waiting, this.#pause(patience, signal)])) {
        if (signal?.aborted) await this.close();
        signal?.throwIfAborted();
        logger.warn("controller_awaited", { detail: this.#problem ?? "no answer yet" });
      }
    }
    if (signal?.aborted) await this.close();
    signal?.throwIfAborted();
  }

  async #pause(milliseconds: number, signal: AbortSignal | undefined): Promise<false> {
    await sleep(milliseconds, signal === undefined ? {} : { signal }).catch(() => undefined);
    return false;
  }

  async #run(): Promise<void> {
    const { signal } = this.#closing;
    for (let attempt = 0; !signal.aborted; attempt++) {
      try {
        await this.#follow(() => attempt = 0);
      } catch (error) {
        if (signal.aborted) break;
        this.#disconnected(error);
      }
      // A controller that restarts is back in a moment, so that the first attempts come soon.
      const delay = Math.min(MAX_RETRY_MS, backoffDelay(attempt, Math.random()) / 4);
      await sleep(delay, { signal }).catch(() => undefined);
    }
  }

  /** Follows one stream to its end, which is always an error. */
  async #follow(onHeard: () => void): Promise<void> {
    const stream = new AbortController();
    const stop = () => stream.abort(this.#closing.signal.reason);
    this.#closing.signal.addEventListener("abort", stop, { once: true });
    let deadline: ReturnType<typeof setTimeout> | undefined;
    const watch = () => {
      clearTimeout(deadline);
      deadline = setTimeout(
        () => stream.abort(new Error("the controller is silent")),
        HEARTBEAT_DEADLINE_MS,
      );
    };
    watch();
    try {
      const since = this.#known && { epoch: this.#known.epoch, revision: this.#known.state.revision };
      for await (const event of this.#options.link.follow({ since, signal: stream.signal })) {
        watch();
        onHeard();
        this.#heardAt = this.#options.now();
        this.#handle(event);
        this.#options.cache?.heard(this.#heardAt);
        if (!this.#isConnected && this.#known !== undefined) this.#connected(stream);
      }
      stream.signal.throwIfAborted();
      throw new Error("the controller ended the stream");
    } finally {
      clearTimeout(deadline);
      this.#closing.signal.removeEventListener("abort", stop);
      this.#views.disconnected();
      stream.abort();
    }
  }

  #connected(stream: AbortController): void {
    this.#isConnected = true;
    this.#problem = undefined;
    this.#options.logger.info("controller_followed", { revision: this.state.revision });
    this.#views.connected((reason) => stream.abort(reason));
    this.#first.resolve();
    for (const listener of this.#onConnected) listener();
  }

  #disconnected(error: unknown): void {
    const problem = `controller not reached: ${errorMessage(error)}`;
    if (this.#isConnected || this.#problem === undefined) {
      this.#options.logger.warn("controller_lost", { reason: errorCode(error), detail: errorMessage(error) });
    }
    this.#isConnected = false;
    this.#problem = problem;
  }

  #handle(event: SyncEvent): void {
    const { cache, trustDomain } = this.#options;
    switch (event.type) {
      case "snapshot": {
        if (event.state.trustDomain !== trustDomain) {
          throw new Error(`the controller is of the network ${event.state.trustDomain}`);
        }
        const isRestored = this.#known !== undefined && this.#known.epoch !== event.epoch;
        this.#take({ epoch: event.epoch, state: event.state, network: this.#known?.network });
        for (const listener of isRestored ? this.#onRestored : []) listener();
        break;
      }
      case "changes": {
        if (this.#known === undefined) throw new Error("the controller began with changes");
        this.#take({ ...this.#known, state: applyChanges(this.#known.state, event) });
        break;
      }
      case "views":
        for (const { identity, jws } of event.views) this.#views.deliver(identity, jws);
        cache?.saveViews(event.views);
        return;
      case "network":
        if (this.#known === undefined || this.#known.network === event.jws) return;
        this.#known = { ...this.#known, network: event.jws };
        this.#tell(new Set(["network"]));
        break;
      case "released":
        for (const listener of this.#onReleased) listener(event.identity);
        return;
      case "ended":
        for (const listener of this.#onEnded) listener(event.session);
        return;
      case "heartbeat":
        return;
    }
    if (this.#known !== undefined) cache?.save(this.#known);
  }

  #take(known: KnownNetwork): void {
    const before = this.#known?.state;
    const { state } = known;
    this.#known = known;
    const what = new Set<NetworkPart>();
    if (before === undefined || isPolicyDifferent(before, state)) {
      what.add("policy");
      const document = toPolicyDocument(state);
      this.#policy = compilePolicy(document, {
        trustDomain: state.trustDomain,
        declaredOnly: true,
        ...(this.#policy === undefined ? {} : { previous: this.#policy }),
      });
      if (document.identities !== this.#listed) {
        this.#listed = document.identities;
        this.#identities = new Set(document.identities.map(({ id }) => id!));
      }
    }
    if (isDifferent(before?.egress, state.egress) || isDifferent(before?.pools, state.pools)) {
      what.add("egress");
    }
    if (
      before === undefined || before.trustDomains !== state.trustDomains ||
      isDifferent(before.roots, state.roots) || isDifferent([...before.revoked], [...state.revoked])
    ) what.add("trust");
    if (before !== undefined && what.size > 0) this.#tell(what);
  }

  #tell(what: ReadonlySet<NetworkPart>): void {
    for (const listener of this.#listeners) listener(what);
  }

  async #waitUntil(condition: () => boolean, milliseconds: number): Promise<void> {
    if (condition()) return;
    const { promise, resolve } = Promise.withResolvers<void>();
    const stop = this.onChange(() => condition() && resolve());
    const timer = setTimeout(resolve, milliseconds);
    await promise;
    clearTimeout(timer);
    stop();
  }
}

function isPolicyDifferent(before: NetworkState, after: NetworkState): boolean {
  return before.identities !== after.identities || before.services !== after.services ||
    before.servicePolicies !== after.servicePolicies || before.trustDomains !== after.trustDomains;
}

function isDifferent(before: unknown, after: unknown): boolean {
  return before !== after && JSON.stringify(before) !== JSON.stringify(after);
}
