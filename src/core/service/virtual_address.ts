/** Numbers of services within a network's pools, and the virtual addresses that follow from them. */

import { type IpAddress, type IpPrefix, type IpVersion, prefixContains } from "../../base/ip.ts";
import type { ServiceNetwork } from "./catalogue.ts";

/** The agent's DNS resolver. */
export const RESOLVER_INDEX = 1;

/** The address of the interface that captures. */
export const INTERFACE_INDEX = 2;

/** The peer that captured TCP connections come from. */
export const PEER_INDEX = 3;

/** The first and the last number a service may have. */
export const SERVICE_INDEXES = { first: 16, last: 32_767 } as const;

/** The first and the last number an agent may give to a host name. */
export const NAME_INDEXES = { first: 32_768, last: 65_533 } as const;

/** A service that wants a number. */
export interface NumberedService {
  readonly name: string;
  /** The number it has already. */
  readonly index?: number;
}

/** The virtual address with this number. */
export function virtualAddress(network: ServiceNetwork, version: IpVersion, index: number): IpAddress {
  return { version, value: poolOf(network, version).first + BigInt(index) };
}

/** The number of a virtual address; undefined when it is none of the network's. */
export function virtualIndex(network: ServiceNetwork, address: IpAddress): number | undefined {
  const pool = poolOf(network, address.version);
  if (!prefixContains(pool, address)) return undefined;
  const index = address.value - pool.first;
  // All but the last 16 bits of the IPv6 pool's addresses are nobody's.
  return index > 0xffffn ? undefined : Number(index);
}

/** The number a service takes when nobody has it yet. */
export function preferredIndex(name: string): number {
  return pickIndex(name, SERVICE_INDEXES);
}

/** The number within `range` at which the search for a free one begins: a stable hash of the text. */
export function pickIndex(
  text: string,
  { first, last }: { readonly first: number; readonly last: number },
): number {
  return first + fnv1a(text) % (last - first + 1);
}

/** The next number to try within `range`. */
export function nextIndex(
  index: number,
  { first, last }: { readonly first: number; readonly last: number },
): number {
  return index >= last ? first : index + 1;
}

/**
 * Gives every service a number, the same for the same list in any order: those that have one keep it; the rest are
 * numbered by their names. A second service with one number, and services for which none is left, get none.
 */
export function assignIndexes(services: readonly NumberedService[]): Map<string, number> {
  const indexes = new Map<string, number>();
  const taken = new Set<number>();
  const byName = services.toSorted((a, b) => a.name < b.name ? -1 : a.name > b.name ? 1 : 0);
  const { first, last } = SERVICE_INDEXES;
  for (const { name, index } of byName) {
    if (index === undefined || index < first || index > last || taken.has(index)) continue;
    indexes.set(name, index);
    taken.add(index);
  }
  for (const { name, index } of byName) {
    if (index !== undefined || taken.size > last - first) continue;
    let free = preferredIndex(name);
    while (taken.has(free)) free = nextIndex(free, SERVICE_INDEXES);
    indexes.set(name, free);
    taken.add(free);
  }
  return indexes;
}

function poolOf({ ipv4, ipv6 }: ServiceNetwork, version: IpVersion): IpPrefix {
  return version === 4 ? ipv4 : ipv6;
}

/** FNV-1a with 32 bits, over UTF-16 units: names are ASCII. */
function fnv1a(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) {
    hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  }
  return hash >>> 0;
}
