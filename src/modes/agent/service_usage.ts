/**
 * What the agent's status says of each service's use: flows now, the last use, and the path it took.
 */

import type { CarrierKind } from "../../dataplane/carrier.ts";

/** How a flow reached its service. */
export interface FlowPath {
  /** Name of the relay. */
  readonly relay: string;
  /** SPIFFE ID of the connector. */
  readonly connector: string;
  /** What carries the flow to the relay. */
  readonly carrier: CarrierKind;
  readonly direct: false;
}

/** One service's use. */
export interface ServiceUsage {
  /** Open now. */
  readonly flows: number;
  /** Milliseconds since the epoch at which the last flow was opened or ended. */
  readonly lastUsed: number;
  readonly lastPath: FlowPath;
}

/** Counts flows by service. */
export class UsageTable {
  readonly #now: () => number;
  readonly #services = new Map<string, { -readonly [K in keyof ServiceUsage]: ServiceUsage[K] }>();

  constructor(options: { readonly now?: () => number } = {}) {
    this.#now = options.now ?? Date.now;
  }

  /** Every service used so far that was kept. */
  get services(): ReadonlyMap<string, ServiceUsage> {
    return this.#services;
  }

  /** A flow was opened; returns the way to say that it ended. */
  enter(service: string, path: FlowPath): () => void {
    let usage = this.#services.get(service);
    if (usage === undefined) {
      this.#services.set(service, usage = { flows: 0, lastUsed: 0, lastPath: path });
    }
    const { flows } = usage;
    Object.assign(usage, { flows: flows + 1, lastUsed: this.#now(), lastPath: path });
    let isOpen = true;
    return () => {
      if (!isOpen) return;
      isOpen = false;
      usage.flows--;
      usage.lastUsed = this.#now();
    };
  }

  /** Forgets services that are of no interest any more. */
  retain(keeps: (service: string) => boolean): void {
    for (const service of this.#services.keys()) {
      if (!keeps(service)) this.#services.delete(service);
    }
  }
}
