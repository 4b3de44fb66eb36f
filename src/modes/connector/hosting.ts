/**
 * Offers the services that the network's administrators define, as policy lets this connector Bind them and its own config
 * lets their destinations through; they come, change and go with the signed view.
 */

import { sleep } from "../../base/async.ts";
import { errorMessage } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { Host } from "../../core/service/host.ts";
import type { ViewHolder } from "../shared/view_holder.ts";
import type { BindableService } from "../shared/view_services.ts";
import { HostedService } from "./hosted_service.ts";
import type { HostingReach } from "./hosting_reach.ts";
import type { OfferedService } from "./services.ts";

/** What hosting needs. */
export interface HostingOptions {
  readonly views: Pick<ViewHolder, "bindable" | "onChange">;
  readonly reach: HostingReach;
  /** Those offered now. Hosting adds its own and takes only those away: what is there at first stays as it is. */
  readonly services: Map<string, OfferedService>;
  /** Told of a service that is offered from now on, or in place of one of that name. */
  readonly onOffered: (service: OfferedService) => void;
  /** Told of a service that is offered no longer. */
  readonly onWithdrawn: (name: string) => void;
  /** Told when a service's health or cost has changed. */
  readonly onStanding: (service: OfferedService) => void;
  readonly logger: Logger;
}

/** Milliseconds until a name that decides whether a service is let through is resolved again. */
const RESOLVE_INTERVAL_MS = 30_000;

/** Keeps hosted services as the views say. */
export class Hosting {
  readonly #options: HostingOptions;
  readonly #configured: ReadonlySet<string>;
  readonly #hosted = new Map<string, HostedEntry>();
  readonly #unfollow: () => void;
  #seen: readonly BindableService[] = [];

  constructor(options: HostingOptions) {
    this.#options = options;
    this.#configured = new Set(options.services.keys());
    this.#unfollow = options.views.onChange(() => this.#follow());
    this.#follow();
  }

  /** Ends all checks; what is offered stays offered, so that running flows can drain. */
  close(): void {
    this.#unfollow();
    for (const { ending } of this.#hosted.values()) ending.abort();
  }

  #follow(): void {
    const bindable = this.#options.views.bindable();
    if (bindable === this.#seen) return;
    this.#seen = bindable;
    const wanted = new Map(bindable.filter(isHosted).map((entry) => [entry.service, entry]));
    for (const name of this.#configured) wanted.delete(name);
    for (const [name, entry] of this.#hosted) {
      const now = wanted.get(name);
      if (now !== undefined && fingerprint(now) === entry.fingerprint) wanted.delete(name);
      else this.#end(entry, { isReplaced: now !== undefined && !this.#options.reach.dependsOnDns(now.host) });
    }
    for (const entry of wanted.values()) this.#begin(entry);
  }

  #begin(bindable: BindableService & { readonly host: Host }): void {
    const { reach, logger } = this.#options;
    const entry: HostedEntry = {
      fingerprint: fingerprint(bindable),
      host: bindable.host,
      service: new HostedService(bindable, { reach, logger }),
      ending: new AbortController(),
      fault: undefined,
    };
    this.#hosted.set(bindable.service, entry);
    void this.#keep(entry);
  }

  #end({ service, ending }: HostedEntry, { isReplaced }: { readonly isReplaced: boolean }): void {
    ending.abort();
    this.#hosted.delete(service.name);
    // A successor that need not wait for a name is offered over it at once, so that no flow finds a gap.
    if (!isReplaced) this.#withdraw(service.name);
  }

  /** Offers a service for as long as its destination is let through. */
  async #keep(entry: HostedEntry): Promise<void> {
    const { reach } = this.#options;
    const { signal } = entry.ending;
    while (!signal.aborted) {
      const fault = await this.#faultOf(entry.host);
      if (signal.aborted) return;
      if (fault === undefined) this.#offer(entry);
      else this.#refuse(entry, fault);
      if (!reach.dependsOnDns(entry.host)) return;
      await sleep(RESOLVE_INTERVAL_MS, { signal }).catch(() => {});
    }
  }

  async #faultOf(host: Host): Promise<string | undefined> {
    try {
      return await this.#options.reach.admits(host) ? undefined : "hosting.allow does not let it through";
    } catch (error) {
      return errorMessage(error);
    }
  }

  #offer(entry: HostedEntry): void {
    const { services, onOffered, onStanding } = this.#options;
    const { service, ending } = entry;
    entry.fault = undefined;
    if (services.get(service.name) === service) return;
    services.set(service.name, service);
    onOffered(service);
    if (entry.isWatched) return;
    entry.isWatched = true;
    void service.watch({
      signal: ending.signal,
      onChange: () => {
        if (services.get(service.name) === service) onStanding(service);
      },
    });
  }

  #refuse(entry: HostedEntry, fault: string): void {
    const { service } = entry;
    this.#withdraw(service.name);
    if (entry.fault === fault) return;
    entry.fault = fault;
    const { address, port } = entry.host;
    this.#options.logger.warn("service_not_hosted", {
      service: service.name,
      ...(address === undefined ? {} : { address }),
      ...(port === undefined ? {} : { port }),
      detail: fault,
      hint: "Add the destination to hosting.allow if it may be offered here",
    });
  }

  #withdraw(name: string): void {
    if (this.#options.services.delete(name)) this.#options.onWithdrawn(name);
  }
}

interface HostedEntry {
  readonly fingerprint: string;
  readonly host: Host;
  readonly service: HostedService;
  readonly ending: AbortController;
  /** Why it is not offered, as was last said. */
  fault: string | undefined;
  isWatched?: boolean;
}

function isHosted(entry: BindableService): entry is BindableService & { readonly host: Host } {
  return entry.host !== undefined;
}

/** Tells changed configs; views of several relays may differ in nothing but the object. */
function fingerprint({ host, idleTimeout }: BindableService): string {
  return JSON.stringify([host, idleTimeout]);
}
