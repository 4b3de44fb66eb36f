/**
 * What a program may name: a service, as `NAME` or `NAME.ZONE`, or a host for which a service of this network stands
 * (`intercept.v1`). Anything else is nobody's here, and is never looked up elsewhere.
 */

import { GinnelError } from "../base/errors.ts";
import { type DialableService, ServiceCatalogue, type ServiceNetwork } from "../core/service/catalogue.ts";
import { serviceNameFault } from "../core/service_name.ts";
import type { FlowTarget } from "../modes/agent/local_flow.ts";

/** The zone of services' names where the network names none. */
const DEFAULT_ZONE = "ginnel.internal";

/** The part of a node's view that names services. */
export interface NamedServices {
  readonly network: ServiceNetwork | undefined;
  dialable(): readonly DialableService[];
}

/** Reads where a host and port lead; throws `ERR_NOT_A_SERVICE` for hosts that are none of this network's. */
export function destinationOf(
  host: string,
  options: { readonly port?: number; readonly services: NamedServices },
): FlowTarget {
  const { port, services } = options;
  const { network } = services;
  const name = host.toLowerCase().replace(/\.$/, "");
  const suffix = `.${network?.zone ?? DEFAULT_ZONE}`;
  const own = name.endsWith(suffix) ? name.slice(0, -suffix.length) : name;
  const asked = port === undefined ? {} : { port };
  const isOwn = own !== name || services.dialable().some(({ service }) => service === own);
  if (isOwn && serviceNameFault(own) === undefined) return { service: own, ...asked };
  if (network !== undefined && port !== undefined) {
    const match = catalogueOf(services.dialable(), network).matchHost(name, { protocol: "tcp", port });
    if (typeof match === "object") {
      return {
        service: match.service.name,
        port,
        ...(match.address === undefined ? {} : { address: match.address }),
      };
    }
  }
  // A service that this identity may not dial is refused, and audited, by the network.
  if (!name.includes(".") && serviceNameFault(name) === undefined) return { service: name, ...asked };
  throw new GinnelError("ERR_NOT_A_SERVICE", `${host} is no service of this network`, {
    hint: `use the name of a service, or NAME${suffix}`,
  });
}

/** The catalogue of a list, which stays the same object until something changes. */
function catalogueOf(list: readonly DialableService[], network: ServiceNetwork): ServiceCatalogue {
  let catalogue = catalogues.get(list);
  if (catalogue === undefined) catalogues.set(list, catalogue = new ServiceCatalogue(list, network));
  return catalogue;
}

const catalogues = new WeakMap<readonly DialableService[], ServiceCatalogue>();
