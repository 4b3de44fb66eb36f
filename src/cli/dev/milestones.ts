/**
 * Watches the demo's own log for the events that show its parts have found each other.
 */

import { withSignal } from "../../base/async.ts";

/** Waits for events, each named by mode and event: "agent relay_connected". */
export class Milestones {
  readonly #missing: Set<string>;
  readonly #all = Promise.withResolvers<void>();

  constructor(milestones: readonly string[]) {
    this.#missing = new Set(milestones);
  }

  /** Takes in one line of the log. */
  see(line: string): void {
    if (this.#missing.size === 0) return;
    const { mode, event } = JSON.parse(line) as { readonly mode?: string; readonly event: string };
    this.#missing.delete(`${mode} ${event}`);
    if (this.#missing.size === 0) this.#all.resolve();
  }

  /** Resolves with whether all were seen within `milliseconds`. */
  async reached(milliseconds: number): Promise<boolean> {
    try {
      await withSignal(this.#all.promise, AbortSignal.timeout(milliseconds));
      return true;
    } catch {
      // Only the time-out rejects.
      return false;
    }
  }
}
