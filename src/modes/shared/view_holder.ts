/**
 * The signed views a node holds, the newest of each relay. Without a valid view nothing is allowed.
 *
 * A view names the peers that its relay has met, so a right holds where the view of any connected relay grants it.
 * While a relay is away its view counts only if no other is there: it may have missed a change.
 */

import { withSignal } from "../../base/async.ts";
import { errorCode, errorMessage } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { Identity } from "../../identity/identity_file.ts";
import { verifyView, type View, type ViewBind, type ViewDial } from "../../identity/view.ts";

/** What a holder needs. */
export interface ViewHolderOptions {
  readonly identity: Pick<Identity, "id" | "trust">;
  readonly logger: Logger;
}

/** Longest delay a timer takes, in milliseconds; views live for a week at most. */
const MAX_TIMER_MS = 2 ** 31 - 2;

/** Verifies views and answers what they allow. */
export class ViewHolder {
  readonly #options: ViewHolderOptions;
  readonly #listeners = new Set<() => void>();
  readonly #views = new Map<string, HeldView>();

  constructor(options: ViewHolderOptions) {
    this.#options = options;
  }

  /** Whether there is a view in force: one that has not expired. */
  get isValid(): boolean {
    return this.#inForce().length > 0;
  }

  /** SPIFFE IDs of all that may offer what we may dial, and of all that may dial what we may offer. */
  get peers(): ReadonlySet<string> {
    return new Set(
      this.#inForce().flatMap(({ dial, bind }) => [
        ...dial.flatMap((entry) => entry.bind),
        ...bind.flatMap((entry) => entry.dial),
      ]),
    );
  }

  /** Whether we may dial a service at all, whoever offers it. */
  mayDial(service: string): boolean {
    return this.#dial(service).length > 0;
  }

  /** Whether we may dial a service at this connector. */
  mayDialAt(service: string, connector: string): boolean {
    return this.#dial(service).some(({ bind }) => bind.includes(connector));
  }

  /** Whether this caller may dial a service of ours. */
  mayServe(service: string, caller: string): boolean {
    return this.#bind(service).some(({ dial }) => dial.includes(caller));
  }

  /** Whether a service of ours may be served to callers that cannot seal end to end; every view must agree. */
  isPlainAllowed(service: string): boolean {
    const entries = this.#bind(service);
    return entries.length > 0 && entries.every(({ endToEnd }) => endToEnd === "optional");
  }

  /** Verifies a relay's view and takes it if it is newer; refuses (and logs) what does not verify. */
  async accept(jws: string, relay: string): Promise<void> {
    const { identity, logger } = this.#options;
    const minRevision = this.#views.get(relay)?.view.rev;
    let view: View;
    try {
      view = await verifyView(jws, {
        authorities: identity.trust.authorities,
        subject: identity.id,
        now: Date.now(),
        ...(minRevision === undefined ? {} : { minRevision }),
      });
    } catch (error) {
      logger.warn("view_refused", { relay, reason: errorCode(error), detail: errorMessage(error) });
      return;
    }
    // Two verifications may overlap: the newer view stays.
    if (view.rev < (this.#views.get(relay)?.view.rev ?? 0)) return;
    clearTimeout(this.#views.get(relay)?.expiry);
    const expiry = setTimeout(
      () => this.#changed(),
      Math.min(view.exp * 1_000 - Date.now(), MAX_TIMER_MS) + 1,
    );
    this.#views.set(relay, { view, isConnected: true, expiry });
    logger.debug("view_accepted", {
      relay,
      revision: view.rev,
      dial: view.dial.length,
      bind: view.bind.length,
    });
    this.#changed();
  }

  /** The relay is gone: from now on others know better, if there are any. */
  disconnected(relay: string): void {
    const held = this.#views.get(relay);
    if (held === undefined || !held.isConnected) return;
    held.isConnected = false;
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

  #changed(): void {
    for (const listener of this.#listeners) listener();
  }

  #inForce(): View[] {
    const now = Date.now();
    const valid = [...this.#views.values()].filter(({ view }) => view.exp * 1_000 > now);
    const connected = valid.filter(({ isConnected }) => isConnected);
    return (connected.length > 0 ? connected : valid).map(({ view }) => view);
  }

  #dial(service: string): ViewDial[] {
    return this.#inForce().flatMap(({ dial }) => dial.filter((entry) => entry.service === service));
  }

  #bind(service: string): ViewBind[] {
    return this.#inForce().flatMap(({ bind }) => bind.filter((entry) => entry.service === service));
  }
}

interface HeldView {
  readonly view: View;
  isConnected: boolean;
  /** Looks at the rights again when the view ends: live flows end with it. */
  readonly expiry: ReturnType<typeof setTimeout>;
}
