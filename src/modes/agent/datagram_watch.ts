/**
 * Looks at live flows of datagrams twice a second: ends those that carry nothing for too long, and tells what passes
 * to whoever watches their relay. Nothing is done for a datagram itself.
 */

import { DataplaneError } from "../../dataplane/errors.ts";
import type { WatchSigns } from "./flow_watch.ts";

/** Milliseconds between looks. */
const LOOK_MS = 500;

/** What is looked at in a flow. */
export interface WatchedFlow {
  /** Payloads that were sent, and that came. */
  readonly counters: { readonly sent: number; readonly received: number };
  /** Ends the flow for a reason that its owner learns. */
  fail(error: Error): void;
}

/** How a flow is watched. */
export interface DatagramWatchOptions {
  readonly signs: Pick<WatchSigns, "spoke" | "heard">;
  /** Milliseconds after which a flow that carries nothing ends. */
  readonly idleTimeout: number;
}

/** Watches flows as long as there are any. */
export class DatagramWatch {
  readonly #now: () => number;
  readonly #watched = new Set<Watched>();
  #timer: ReturnType<typeof setInterval> | undefined;

  constructor(options: { readonly now?: () => number } = {}) {
    this.#now = options.now ?? (() => performance.now());
  }

  /** Begins to watch a flow; returns the way to stop. */
  enter(flow: WatchedFlow, options: DatagramWatchOptions): () => void {
    const watched: Watched = { ...options, flow, sent: 0, received: 0, activeAt: this.#now() };
    this.#watched.add(watched);
    this.#timer ??= setInterval(() => this.look(), LOOK_MS);
    return () => {
      this.#watched.delete(watched);
      if (this.#watched.size === 0) this.close();
    };
  }

  /** Looks once at every flow. */
  look(): void {
    const now = this.#now();
    for (const watched of this.#watched) {
      const { flow, signs, idleTimeout } = watched;
      const { sent, received } = flow.counters;
      if (received !== watched.received) signs.heard();
      else if (sent !== watched.sent) signs.spoke();
      else {
        if (now - watched.activeAt >= idleTimeout) {
          flow.fail(new DataplaneError("ERR_FLOW_IDLE", "Flow was idle too long"));
        }
        continue;
      }
      watched.sent = sent;
      watched.received = received;
      watched.activeAt = now;
    }
  }

  /** Looks no more. */
  close(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
  }
}

interface Watched extends DatagramWatchOptions {
  readonly flow: WatchedFlow;
  /** As they were at the last look. */
  sent: number;
  received: number;
  activeAt: number;
}
