/** How services appear on users' machines, as the network's authority says: part of its config, and of every view. */

import { z } from "zod";
import { formatPrefix, type IpPrefix } from "../../base/ip.ts";
import { overlapOf, serviceNetworkOf } from "../../core/service/service_network.ts";
import { prefix } from "./tunnel.ts";

/** A service's number is the last 16 bits of its virtual addresses. */
const LENGTH = { 4: 16, 6: 64 } as const;

/** A prefix for virtual addresses: a /16 of IPv4, a /64 of IPv6. */
export function servicePool(version: 4 | 6) {
  return prefix.superRefine((value, context) => {
    if (value.version === version && value.length === LENGTH[version]) return;
    context.addIssue({ code: "custom", message: `not an IPv${version} prefix of /${LENGTH[version]}` });
  });
}

/** The network's settings for services: of a controller, or of a relay that reads policy files. */
export const serviceNetworkSchema = z.strictObject({
  zone: z.string().max(200).regex(
    /^(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?$/,
    "not a DNS zone: lower-case names joined by dots, such as ginnel.internal",
  ).default("ginnel.internal").describe("DNS zone of the services' names on users' machines."),
  ipv4: servicePool(4).prefault("10.101.0.0/16").describe("Virtual IPv4 addresses of services, a /16."),
  ipv6: servicePool(6).exactOptional().describe(
    "Virtual IPv6 addresses of services, a /64. Absent: one of unique local addresses that follows from the trust domain.",
  ),
}).prefault({}).describe("How services appear on users' machines.");

/** Adds an issue where the pools of services share addresses with those of tunnels. */
export function refuseOverlap(
  { services, tunnel, trustDomain = "" }: {
    readonly services: ServiceNetworkConfig;
    readonly tunnel: { readonly ipv4: IpPrefix | null; readonly ipv6?: IpPrefix | null | undefined };
    readonly trustDomain?: string;
  },
  context: z.RefinementCtx,
): void {
  // One of the other version is refused where it stands.
  const ipv6 = tunnel.ipv6?.version === 6 ? tunnel.ipv6 : null;
  const overlap = overlapOf(serviceNetworkOf(services, trustDomain), [tunnel.ipv4, ipv6]);
  if (overlap === undefined) return;
  context.addIssue({
    code: "custom",
    path: ["services", `ipv${overlap.pool.version}`],
    message: `${formatPrefix(overlap.pool)} overlaps the tunnels' ${
      formatPrefix(overlap.other)
    }: give another range`,
  });
}

/** See {@linkcode serviceNetworkSchema}. */
export type ServiceNetworkConfig = z.output<typeof serviceNetworkSchema>;
