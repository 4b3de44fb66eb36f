/** How a controller's settings give addresses to the clients of tunnels. */

import { formatIp, formatPrefix } from "../../base/ip.ts";
import type { ControllerSettings } from "../../config/schema/controller.ts";
import type { AllocationOptions } from "../../control/store.ts";
import type { NetworkState } from "../../core/network/state.ts";
import { poolsOf, reservationsOf } from "../relay/tunnel/address_plan.ts";

/** The pools, and what a client gets of them. */
export interface AddressPlan {
  readonly pools: NetworkState["pools"];
  allocation(clientId: string, now: number): AllocationOptions;
}

/** Reads the plan out of the settings. */
export async function planAddresses(
  { tunnel, trustDomain }: Pick<ControllerSettings, "tunnel" | "trustDomain">,
): Promise<AddressPlan> {
  const { ipv4, ipv6 } = await poolsOf(tunnel, trustDomain);
  const pools = {
    ipv4: ipv4 === null ? null : formatPrefix(ipv4),
    ipv6: ipv6 === null ? null : formatPrefix(ipv6),
  };
  const reservations = new Map(
    [...reservationsOf(tunnel.reservations, { trustDomain, hasLogins: true })].map((
      [id, addresses],
    ) => [id, addresses.map(formatIp)]),
  );
  const all = [...new Set([...reservations.values()].flat())];
  return {
    pools,
    allocation(clientId, now) {
      const reserved = reservations.get(clientId) ?? [];
      const excluded = all.filter((address) => !reserved.includes(address));
      return { ...pools, now, reserved, excluded, reclaimBefore: now - tunnel.leaseTime };
    },
  };
}
