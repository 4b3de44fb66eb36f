/**
 * How a host name in a request names a service: `rtmx-sync`, or in full `rtmx-sync.ginnel.internal`.
 */

import { serviceNameFault } from "../../core/service_name.ts";

const SUFFIX = ".ginnel.internal";

/** Returns the service a host names, or undefined when it cannot be one. */
export function serviceOfHost(host: string): string | undefined {
  const lower = host.toLowerCase();
  const bare = lower.endsWith(".") ? lower.slice(0, -1) : lower;
  const name = bare.endsWith(SUFFIX) ? bare.slice(0, -SUFFIX.length) : bare;
  return serviceNameFault(name) === undefined ? name : undefined;
}
