/**
 * The views at a relay: asks the controller for those of connected identities, passes them on, and keeps the last ones
 * for when the controller is away. It cannot alter them: they are signed, and nodes verify them.
 */

import { errorMessage } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { ControllerLink } from "./link.ts";

/** What the desk needs. */
export interface ViewDeskOptions {
  readonly want: ControllerLink["wantViews"];
  readonly logger: Logger;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
}

/** Views kept of identities that are not connected: they may come back while the controller is away. */
const MAX_KEPT = 4_096;

/** Milliseconds in which identities that come and go are gathered. */
const GATHER_MS = 2;

/** Identities named in one request. */
const MAX_NAMED = 1_000;

/** All views of one relay. */
export class ViewDesk {
  readonly #options: ViewDeskOptions;
  /** By SPIFFE ID; those without subscribers in the order in which they lost the last one. */
  readonly #held = new Map<string, Held>();
  /** Gives up the stream; undefined while there is none. */
  #giveUp: ((reason: Error) => void) | undefined;
  /** What the controller has been told to send. */
  #asked = new Set<string>();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #asking = Promise.resolve();

  constructor(options: ViewDeskOptions) {
    this.#options = options;
  }

  /** Passes on an identity's views; returns the way to stop. */
  subscribe(identity: string, sink: (jws: string) => void): () => void {
    const held = this.#held.get(identity) ?? { sinks: new Set(), jws: undefined, isLive: false };
    this.#held.delete(identity);
    this.#held.set(identity, held);
    held.sinks.add(sink);
    // While the controller is there, only what it keeps up to date is worth passing on.
    if (held.jws !== undefined && (held.isLive || this.#isUsable(held.jws))) sink(held.jws);
    this.#gather();
    return () => {
      if (!held.sinks.delete(sink) || held.sinks.size > 0 || this.#held.get(identity) !== held) return;
      this.#held.delete(identity);
      this.#held.set(identity, held);
      this.#trim();
    };
  }

  /** A view that was known at another time. */
  remember(identity: string, jws: string): void {
    if (this.#held.has(identity) || expiryOf(jws) <= this.#options.now()) return;
    this.#held.set(identity, { sinks: new Set(), jws, isLive: false });
  }

  /** A view that came from the controller. */
  deliver(identity: string, jws: string): void {
    const held = this.#held.get(identity);
    if (held === undefined) return;
    held.jws = jws;
    held.isLive = this.#asked.has(identity);
    for (const sink of held.sinks) sink(jws);
  }

  /** There is a stream: asks for everything; `giveUp` ends it. */
  connected(giveUp: (reason: Error) => void): void {
    this.#asked = new Set();
    this.#giveUp = giveUp;
    this.#gather();
  }

  /** The stream is gone: those who wait for their view get the last one. */
  disconnected(): void {
    if (this.#giveUp === undefined) return;
    this.#giveUp = undefined;
    for (const held of this.#held.values()) {
      const isWaiting = held.sinks.size > 0 && !held.isLive;
      held.isLive = false;
      if (isWaiting && held.jws !== undefined && this.#isUsable(held.jws)) {
        for (const sink of held.sinks) sink(held.jws);
      }
    }
  }

  /** Forgets everything. */
  close(): void {
    clearTimeout(this.#timer);
    this.#giveUp = undefined;
    this.#held.clear();
  }

  #isUsable(jws: string): boolean {
    return this.#giveUp === undefined && expiryOf(jws) > this.#options.now();
  }

  #trim(): void {
    let spare = 0;
    for (const held of this.#held.values()) if (held.sinks.size === 0) spare++;
    for (const [identity, held] of this.#held) {
      if (spare <= MAX_KEPT) break;
      if (held.sinks.size > 0) continue;
      this.#held.delete(identity);
      spare--;
    }
    this.#gather();
  }

  #gather(): void {
    if (this.#giveUp === undefined || this.#timer !== undefined) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      this.#asking = this.#asking.then(() => this.#ask());
    }, GATHER_MS);
  }

  /** Tells the controller what differs from what it was told. */
  async #ask(): Promise<void> {
    const giveUp = this.#giveUp;
    if (giveUp === undefined) return;
    const asked = this.#asked;
    const add = [...this.#held].filter(([id, held]) => held.sinks.size > 0 && !asked.has(id))
      .map(([id]) => id).slice(0, MAX_NAMED);
    const remove = [...asked].filter((id) => !this.#held.has(id)).slice(0, MAX_NAMED);
    if (add.length === 0 && remove.length === 0) return;
    for (const id of add) asked.add(id);
    for (const id of remove) asked.delete(id);
    try {
      await this.#options.want({ add, remove });
    } catch (error) {
      this.#options.logger.info("views_not_asked_for", { detail: errorMessage(error) });
      // Without views nobody gets in: better a new stream, perhaps of another controller.
      giveUp(new Error(`views could not be asked for: ${errorMessage(error)}`));
      return;
    }
    this.#gather();
  }
}

interface Held {
  readonly sinks: Set<(jws: string) => void>;
  /** The newest view. */
  jws: string | undefined;
  /** Whether the controller keeps it up to date. */
  isLive: boolean;
}

/** When a view ends, milliseconds since the epoch; 0 for what is none. Nobody relies on it but to spare nodes a view. */
function expiryOf(jws: string): number {
  try {
    const payload = jws.split(".")[1]!.replaceAll("-", "+").replaceAll("_", "/");
    const { exp } = JSON.parse(
      new TextDecoder().decode(Uint8Array.from(atob(payload), (c) => c.charCodeAt(0))),
    );
    return typeof exp === "number" ? exp * 1_000 : 0;
  } catch {
    // Not a view: as good as one that is over.
    return 0;
  }
}
