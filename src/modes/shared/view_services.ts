/** What the views in force say of services, beyond who may reach them: joined, and read into shape. */

import { DEFAULT_IDLE_TIMEOUT } from "../../core/policy/document.ts";
import type { DialableService, ServiceNetwork } from "../../core/service/catalogue.ts";
import { type Host, readHost } from "../../core/service/host.ts";
import { readIntercept } from "../../core/service/intercept.ts";
import { readServiceNetwork } from "../../core/service/service_network.ts";
import type { View } from "../../identity/view.ts";

/** A service we may offer. */
export interface BindableService {
  readonly service: string;
  /** Where its flows go, if the network says so. */
  readonly host?: Host;
  /** Milliseconds after which a UDP flow that carries nothing ends. */
  readonly idleTimeout: number;
}

/** Who may be at the other end of a service. */
export interface ServiceRights {
  /** SPIFFE IDs of those at the other end. */
  readonly peers: ReadonlySet<string>;
  readonly isPlainAllowed: boolean;
}

/** What is in force. */
interface JoinedRights {
  readonly views: readonly View[];
  readonly dial: ReadonlyMap<string, ServiceRights>;
  readonly bind: ReadonlyMap<string, ServiceRights>;
}

/** Orders views of one authority: negative where the first is the older one. */
export function byAge(first: View, second: View): number {
  return first.rev - second.rev || first.iat - second.iat || first.exp - second.exp;
}

/** The network of the newest view that names one: relays of one network agree, but for the time of a change. */
export function networkOf(views: readonly View[]): ServiceNetwork | undefined {
  for (const { services } of views.toSorted(byAge).reverse()) {
    const network = services && readServiceNetwork(services);
    if (network !== undefined) return network;
  }
  return undefined;
}

/** All that may be dialled, sorted by name. What differs between views is taken from the newest that says it. */
export function joinDialable({ views, dial }: Pick<JoinedRights, "views" | "dial">): DialableService[] {
  const entries = new Map(
    views.toSorted(byAge).flatMap((view) => view.dial).map((entry) => [entry.service, entry]),
  );
  return [...dial].sort(byName).map(([service, { peers, isPlainAllowed }]) => {
    const { index, intercept: data, idleTimeout = DEFAULT_IDLE_TIMEOUT } = entries.get(service)!;
    const intercept = readIntercept(data);
    return {
      service,
      endToEnd: isPlainAllowed ? "optional" : "required",
      connectors: [...peers].sort(),
      idleTimeout: idleTimeout * 1_000,
      ...(index !== undefined && { index }),
      ...(intercept !== undefined && { intercept }),
    };
  });
}

/** All that may be offered, sorted by name. */
export function joinBindable({ views, bind }: Pick<JoinedRights, "views" | "bind">): BindableService[] {
  const entries = new Map(
    views.toSorted(byAge).flatMap((view) => view.bind).map((entry) => [entry.service, entry]),
  );
  return [...bind.keys()].sort().map((service) => {
    const { host: data, idleTimeout = DEFAULT_IDLE_TIMEOUT } = entries.get(service)!;
    const host = readHost(data);
    return { service, idleTimeout: idleTimeout * 1_000, ...(host !== undefined && { host }) };
  });
}

function byName([a]: readonly [string, unknown], [b]: readonly [string, unknown]): number {
  return a < b ? -1 : 1;
}
