/**
 * Looks names up by the system's resolver and remembers what it said: a tunnel that is down may be the only way to the
 * name servers, and its relay must be found all the same.
 */

import { withDeadline } from "../../base/async.ts";
import { resolveHost } from "./resolve_host.ts";

/** How a {@linkcode NameMemory} asks. */
export interface NameMemoryOptions {
  /** Asks the system; tests replace it. */
  readonly resolve?: (name: string) => Promise<readonly string[]>;
  /** Milliseconds to wait for an answer where there is one from before; default 2,000. */
  readonly patience?: number;
}

/** Remembers where the names of a config led, for as long as nobody says otherwise. */
export class NameMemory {
  readonly #resolve: (name: string) => Promise<readonly string[]>;
  readonly #patience: number;
  readonly #known = new Map<string, readonly string[]>();

  constructor({ resolve = resolveHost, patience = 2_000 }: NameMemoryOptions = {}) {
    this.#resolve = resolve;
    this.#patience = patience;
  }

  /** All addresses of a name; those it had before when the system cannot tell. Rejects when it never had any. */
  async lookUp(name: string): Promise<readonly string[]> {
    const asking = this.#resolve(name).then((found) => {
      // An answer that comes late is good for the next time.
      this.#known.set(name, found);
      return found;
    });
    const before = this.#known.get(name);
    if (before === undefined) return await asking;
    return await withDeadline(this.#patience, () => asking).catch(() => before);
  }
}
