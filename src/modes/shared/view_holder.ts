/**
 * The signed views a node holds, the newest of each relay. Without a valid view nothing is allowed.
 *
 * Where every relay signs by a policy of its own, a view names the peers that its relay has met, so a right holds where
 * the view of any connected relay grants it. While a relay is away its view counts only if no other is there: it may
 * have missed a change. Where a controller signs for all of them, the newest view alone counts, whoever brought it: a
 * relay that lags behind, or holds back the newest, revives no right.
 */

import { withSignal } from "../../base/async.ts";
import { errorCode, errorMessage } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { DialableService, ServiceNetwork } from "../../core/service/catalogue.ts";
import type { Identity } from "../../identity/identity_file.ts";
import { verifyView, type View } from "../../identity/view.ts";
import {
  type BindableService,
  byAge,
  joinBindable,
  joinDialable,
  networkOf,
  type ServiceRights,
} from "./view_services.ts";

/** What a holder needs. */
export interface ViewHolderOptions {
  readonly identity: () => Pick<Identity, "id" | "trust" | "network">;
  readonly logger: Logger;
}

/** Longest delay a timer takes, in milliseconds; views live for a week at most. */
const MAX_TIMER_MS = 2 ** 31 - 2;

/** Verifies views and answers what they allow. */
export class ViewHolder {
  readonly #options: ViewHolderOptions;
  readonly #listeners = new Set<() => void>();
  readonly #views = new Map<string, HeldView>();
  /** Relays that would not have us the last time, and have brought no view since. */
  readonly #refusing = new Set<string>();
  #known: Rights | undefined;

  constructor(options: ViewHolderOptions) {
    this.#options = options;
  }

  /** Whether there is a view in force: one that has not expired. */
  get isValid(): boolean {
    return this.#rights().isValid;
  }

  /**
   * Whether the relays that answer say that we may be here no more. What they told before then counts no more either; a
   * relay that says so in error takes away nothing that another one still grants.
   */
  get isRefused(): boolean {
    return this.#refusing.size > 0 && ![...this.#views.values()].some(({ isConnected }) => isConnected);
  }

  /** SPIFFE IDs of all that may offer what we may dial, and of all that may dial what we may offer. */
  get peers(): ReadonlySet<string> {
    const { dial, bind } = this.#rights();
    return new Set([...dial.values(), ...bind.values()].flatMap(({ peers }) => [...peers]));
  }

  /** Whether we may dial a service at all, whoever offers it. */
  mayDial(service: string): boolean {
    return this.#rights().dial.has(service);
  }

  /** Whether we may dial a service at this connector. */
  mayDialAt(service: string, connector: string): boolean {
    return this.#rights().dial.get(service)?.peers.has(connector) ?? false;
  }

  /** Whether this caller may dial a service of ours. */
  mayServe(service: string, caller: string): boolean {
    return this.#rights().bind.get(service)?.peers.has(caller) ?? false;
  }

  /** Whether a service of ours may be served to callers that cannot seal end to end; every view must agree. */
  isPlainAllowed(service: string): boolean {
    return this.#rights().bind.get(service)?.isPlainAllowed ?? false;
  }

  /** All services we may dial, sorted by name; the same list until something changes. */
  dialable(): readonly DialableService[] {
    const rights = this.#rights();
    return rights.dialable ??= joinDialable(rights);
  }

  /** All services we may offer, sorted by name; the same list until something changes. */
  bindable(): readonly BindableService[] {
    const rights = this.#rights();
    return rights.bindable ??= joinBindable(rights);
  }

  /** How services appear on machines, as the views in force say; undefined where they say nothing. */
  get network(): ServiceNetwork | undefined {
    return this.#rights().network;
  }

  /** The newest view in force; times are milliseconds since the epoch. */
  get newest(): { readonly revision: number; readonly issued: number; readonly expires: number } | undefined {
    const view = this.#rights().views.toSorted(byAge).at(-1);
    return view && { revision: view.rev, issued: view.iat * 1_000, expires: view.exp * 1_000 };
  }

  /** Verifies a relay's view and takes it if it is newer; refuses (and logs) what does not verify. */
  async accept(jws: string, relay: string): Promise<void> {
    const { logger } = this.#options;
    let view: View;
    try {
      view = await this.#verify(jws, this.#views.get(relay)?.view.rev);
    } catch (error) {
      logger.warn("view_refused", { relay, reason: errorCode(error), detail: errorMessage(error) });
      return;
    }
    this.#refusing.delete(relay);
    const held = this.#views.get(relay);
    // Two verifications may overlap, and one revision may be signed several times: the newer view stays.
    if (held !== undefined && byAge(view, held.view) < 0) return;
    clearTimeout(held?.expiry);
    const expiry = setTimeout(
      () => this.#changed(),
      Math.min(view.exp * 1_000 - Date.now(), MAX_TIMER_MS) + 1,
    );
    this.#views.set(relay, { view, jws, isConnected: true, expiry });
    logger.debug("view_accepted", {
      relay,
      revision: view.rev,
      dial: view.dial.length,
      bind: view.bind.length,
    });
    this.#changed();
  }

  /** The network's authorities have changed: views that none of the present ones signed count no more. */
  async recheck(): Promise<void> {
    for (const [relay, held] of this.#views) {
      try {
        await this.#verify(held.jws, undefined);
      } catch (error) {
        this.#options.logger.warn("view_revoked", { relay, reason: errorCode(error) });
        if (this.#views.get(relay) !== held) continue;
        clearTimeout(held.expiry);
        this.#views.delete(relay);
      }
    }
    this.#changed();
  }

  /** The relay is gone: from now on others know better, if there are any. */
  disconnected(relay: string): void {
    const held = this.#views.get(relay);
    if (held === undefined || !held.isConnected) return;
    held.isConnected = false;
    this.#changed();
  }

  /** The relay does not admit us any more. */
  refused(relay: string): void {
    if (this.#refusing.has(relay)) return;
    this.#refusing.add(relay);
    this.#changed();
  }

  /** Calls back after each change of what is in force; returns the way to stop. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Waits until `condition` holds for the view in force; resolves with whether it came to hold in time. */
  async waitFor(condition: () => boolean, milliseconds: number): Promise<boolean> {
    if (condition()) return true;
    const { promise, resolve } = Promise.withResolvers<void>();
    const stop = this.onChange(() => {
      if (condition()) resolve();
    });
    try {
      await withSignal(promise, AbortSignal.timeout(milliseconds));
      return true;
    } catch {
      // Only the time-out ends the wait early.
      return false;
    } finally {
      stop();
    }
  }

  /** Stops watching for expiry. */
  close(): void {
    for (const { expiry } of this.#views.values()) clearTimeout(expiry);
  }

  #verify(jws: string, minRevision: number | undefined): Promise<View> {
    const { id, trust } = this.#options.identity();
    return verifyView(jws, {
      authorities: trust.authorities,
      subject: id,
      now: Date.now(),
      ...(minRevision === undefined ? {} : { minRevision }),
    });
  }

  #changed(): void {
    this.#known = undefined;
    for (const listener of this.#listeners) listener();
  }

  /** What the views in force allow, worked out once for many questions: every flow asks three. */
  #rights(): Rights {
    if (this.#known !== undefined && this.#known.until > Date.now()) return this.#known;
    const views = this.#inForce();
    this.#known = {
      views,
      network: networkOf(views),
      isValid: views.length > 0,
      // Without a view there is nothing to outlive: the next one that comes clears what is known.
      until: Math.min(...views.map(({ exp }) => exp * 1_000)),
      dial: index(views.flatMap(({ dial }) => dial.map((entry) => ({ ...entry, peers: entry.bind })))),
      bind: index(views.flatMap(({ bind }) => bind.map((entry) => ({ ...entry, peers: entry.dial })))),
    };
    return this.#known;
  }

  #inForce(): View[] {
    if (this.isRefused) return [];
    const now = Date.now();
    const held = [...this.#views.values()];
    if (this.#options.identity().network !== undefined) {
      const newest = held.map(({ view }) => view).sort(byAge).at(-1);
      return newest !== undefined && newest.exp * 1_000 > now ? [newest] : [];
    }
    const valid = held.filter(({ view }) => view.exp * 1_000 > now);
    const connected = valid.filter(({ isConnected }) => isConnected);
    return (connected.length > 0 ? connected : valid).map(({ view }) => view);
  }
}

/** Joins what several views say of each service. */
function index(
  entries: readonly {
    readonly service: string;
    readonly endToEnd: string;
    readonly peers: readonly string[];
  }[],
): Map<string, ServiceRights> {
  const services = new Map<string, ServiceRights>();
  for (const { service, endToEnd, peers } of entries) {
    const seen = services.get(service);
    services.set(service, {
      peers: new Set([...(seen?.peers ?? []), ...peers]),
      isPlainAllowed: endToEnd === "optional" && (seen?.isPlainAllowed ?? true),
    });
  }
  return services;
}

interface Rights {
  /** Those in force. */
  readonly views: readonly View[];
  readonly network: ServiceNetwork | undefined;
  readonly isValid: boolean;
  /** Milliseconds since the epoch at which the first view in force ends. */
  readonly until: number;
  readonly dial: ReadonlyMap<string, ServiceRights>;
  readonly bind: ReadonlyMap<string, ServiceRights>;
  dialable?: readonly DialableService[];
  bindable?: readonly BindableService[];
}

interface HeldView {
  readonly view: View;
  readonly jws: string;
  isConnected: boolean;
  /** Looks at the rights again when the view ends: live flows end with it. */
  readonly expiry: ReturnType<typeof setTimeout>;
}
