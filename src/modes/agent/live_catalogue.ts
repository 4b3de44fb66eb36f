/** The services this agent may dial, under their names and addresses here, as they come and go. */

import { type DialableService, ServiceCatalogue, type ServiceNetwork } from "../../core/service/catalogue.ts";
import { withLocalPools } from "../../core/service/service_network.ts";
import type { IpPrefix } from "../../base/ip.ts";

/** Where the list comes from. */
export interface ServiceViews {
  readonly isValid: boolean;
  readonly network: ServiceNetwork | undefined;
  dialable(): readonly DialableService[];
  onChange(listener: () => void): () => void;
}

/** What a live catalogue needs. */
export interface LiveCatalogueOptions {
  readonly views: ServiceViews;
  /** Pools of this machine, in place of the network's. */
  readonly pools: { readonly ipv4?: IpPrefix | undefined; readonly ipv6?: IpPrefix | undefined };
}

/** Keeps a catalogue as the views in force are. */
export class LiveCatalogue {
  readonly #options: LiveCatalogueOptions;
  readonly #listeners = new Set<() => void>();
  readonly #stop: () => void;
  #current: ServiceCatalogue | undefined;
  /** What {@linkcode current} was made of, as text. */
  #source = "";
  #isValid = false;

  constructor(options: LiveCatalogueOptions) {
    this.#options = options;
    this.#stop = options.views.onChange(() => this.#follow());
    this.#follow();
  }

  /** The last known services; undefined while nobody has told how services appear. */
  get current(): ServiceCatalogue | undefined {
    return this.#current;
  }

  /** Whether a view in force grants {@linkcode current}; else its names are known, and lead nowhere. */
  get isValid(): boolean {
    return this.#isValid;
  }

  /** Calls back when the services, or whether they are granted, have changed; returns the way to stop. */
  onChange(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Follows no more. */
  close(): void {
    this.#stop();
    this.#listeners.clear();
  }

  #follow(): void {
    const { views, pools } = this.#options;
    const { network, isValid } = views;
    const wasValid = this.#isValid;
    this.#isValid = isValid;
    const hasNew = isValid && this.#renew(views.dialable(), network && withLocalPools(network, pools));
    if (!hasNew && wasValid === isValid) return;
    for (const listener of this.#listeners) listener();
  }

  /** Whether the catalogue is another one now. Views are signed anew again and again without a change of rights. */
  #renew(services: readonly DialableService[], network: ServiceNetwork | undefined): boolean {
    const source = JSON.stringify([network ?? null, services], plainNumbers);
    if (source === this.#source) return false;
    this.#source = source;
    this.#current = network === undefined ? undefined : new ServiceCatalogue(services, network);
    return true;
  }
}

function plainNumbers(_key: string, value: unknown): unknown {
  return typeof value === "bigint" ? value.toString() : value;
}
