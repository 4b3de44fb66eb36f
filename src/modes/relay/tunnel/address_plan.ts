/**
 * Which addresses a relay's tunnels use: the pools, by default one that follows from the trust domain, and the fixed
 * addresses of identities.
 */

import { type IpAddress, ipFromBytes, type IpPrefix, prefixOf } from "../../../base/ip.ts";
import { utf8 } from "../../../base/bytes.ts";
import type { RelayTunnelConfig } from "../../../config/schema/tunnel.ts";
import { AddressPool } from "../../../core/address_pool.ts";
import type { NameScope } from "../../../core/egress/identity_matcher.ts";
import type { Reservations } from "../../../core/ipam.ts";

/** The pools of one relay. */
export interface Pools {
  readonly ipv4: IpPrefix | null;
  readonly ipv6: IpPrefix | null;
}

/** The pools that a config asks for. */
export async function poolsOf(
  { ipv4, ipv6 }: Pick<RelayTunnelConfig, "ipv4" | "ipv6">,
  trustDomain: string,
): Promise<Pools> {
  return { ipv4, ipv6: ipv6 === undefined ? await localPrefix(trustDomain) : ipv6 };
}

/** The relay's own address in each pool. */
export function gatewaysOf(
  { ipv4, ipv6 }: Pools,
): { readonly 4: IpAddress | null; readonly 6: IpAddress | null } {
  return {
    4: ipv4 === null ? null : new AddressPool(ipv4).gateway,
    6: ipv6 === null ? null : new AddressPool(ipv6).gateway,
  };
}

/** Fixed addresses by SPIFFE ID, from the names that policies use. */
export function reservationsOf(
  reservations: Readonly<Record<string, readonly IpAddress[]>>,
  scope: NameScope,
): Reservations {
  const byId = new Map<string, readonly IpAddress[]>();
  for (const [name, addresses] of Object.entries(reservations)) {
    for (const id of idsOf(name, scope)) byId.set(id, addresses);
  }
  return byId;
}

/**
 * RFC 4193 §3.2.2 wants 40 bits that no other site is likely to have: here they come from the name of the trust domain, so
 * that every relay of a network has the same prefix without being told.
 */
async function localPrefix(trustDomain: string): Promise<IpPrefix> {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", utf8(`tunnels of ${trustDomain}`)));
  const address = new Uint8Array(16);
  address[0] = 0xfd;
  address.set(digest.subarray(0, 5), 1);
  return prefixOf(ipFromBytes(address), 64);
}

/** `alice` is any agent or user of that name: whoever comes first has the address. Of logins providers give the names. */
function idsOf(name: string, { trustDomain, hasLogins = false }: NameScope): string[] {
  if (name.startsWith("spiffe://")) return [name];
  const kinds = hasLogins ? ["agent"] : ["agent", "user"];
  const paths = name.includes("/") ? [name] : kinds.map((kind) => `${kind}/${name}`);
  return paths.map((path) => `spiffe://${trustDomain}/${path}`);
}
