/**
 * The newest signed view a node holds, whichever relay brought it. Without a valid view nothing is allowed.
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

/** Verifies views and keeps the newest. */
export class ViewHolder {
  readonly #options: ViewHolderOptions;
  readonly #listeners = new Set<() => void>();
  #view: View | undefined;

  constructor(options: ViewHolderOptions) {
    this.#options = options;
  }

  /** The view in force, or undefined when there is none or it has expired. */
  get current(): View | undefined {
    return this.#view !== undefined && this.#view.exp * 1_000 > Date.now() ? this.#view : undefined;
  }

  /** What we may dial, by service. */
  mayDial(service: string): ViewDial | undefined {
    return this.current?.dial.find((entry) => entry.service === service);
  }

  /** Who may dial a service of ours. */
  mayBind(service: string): ViewBind | undefined {
    return this.current?.bind.find((entry) => entry.service === service);
  }

  /** Verifies a view and takes it if it is newer; refuses (and logs) what does not verify. */
  async accept(jws: string): Promise<void> {
    const { identity, logger } = this.#options;
    let view: View;
    try {
      view = await verifyView(jws, {
        authorities: identity.trust.authorities,
        subject: identity.id,
        now: Date.now(),
        ...(this.#view === undefined ? {} : { minRevision: this.#view.rev }),
      });
    } catch (error) {
      logger.warn("view_refused", { reason: errorCode(error), detail: errorMessage(error) });
      return;
    }
    // Two verifications may overlap: the newer view stays.
    if (this.#view !== undefined && view.rev < this.#view.rev) return;
    this.#view = view;
    logger.debug("view_accepted", { revision: view.rev, dial: view.dial.length, bind: view.bind.length });
    for (const listener of this.#listeners) listener();
  }

  /** Calls back after each accepted view; returns the way to stop. */
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
}
