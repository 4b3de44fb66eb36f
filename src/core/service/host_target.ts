/** Where a `host.v1` config leads one flow. */

import { parseIp, prefixContains } from "../../base/ip.ts";
import { canonicalHost, readAddressPattern } from "./address_pattern.ts";
import type { FlowProtocol } from "./catalogue.ts";
import { meansName, withoutMapping } from "./destinations.ts";
import type { Host } from "./host.ts";
import type { PortRange } from "./intercept.ts";

/** What a flow's header asks of a service. */
export interface FlowWish {
  readonly protocol: FlowProtocol;
  readonly port?: number | undefined;
  /** The name or address asked for, where it is not the service's own. */
  readonly address?: string | undefined;
}

/** Where a flow goes, or why it goes nowhere. */
export type HostTarget =
  | {
    readonly ok: true;
    readonly protocol: "tcp" | "udp";
    /** A name in lower case, or an address. */
    readonly host: string;
    readonly port: number;
  }
  | { readonly ok: false; readonly detail: string };

/** Resolves a wish: what is fixed stays fixed, what is forwarded must be on its allow-list. */
export function hostTarget(host: Host, wish: FlowWish): HostTarget {
  const { protocol } = wish;
  if (protocol === "icmp") return refuse("echo messages are not carried to an upstream");
  const protocols = host.forwardProtocol ? host.allowedProtocols ?? [] : [host.protocol];
  if (!protocols.includes(protocol)) return refuse(`${protocol} is not offered`);
  const address = host.forwardAddress
    ? forwardedAddress(host.allowedAddresses ?? [], wish.address)
    : host.address;
  if (address === undefined) {
    return refuse(wish.address === undefined ? "no address was asked for" : "this address is not offered");
  }
  const port = host.forwardPort ? wish.port : host.port;
  if (port === undefined) return refuse("no port was asked for");
  if (
    host.forwardPort && !(host.allowedPortRanges ?? []).some(({ low, high }) => low <= port && port <= high)
  ) {
    return refuse(`port ${port} is not offered`);
  }
  return { ok: true, protocol, host: address, port };
}

/** The addresses and ports that a config may lead to, as it writes them. */
export function hostScope(
  host: Host,
): { readonly addresses: readonly string[]; readonly ports: readonly PortRange[] } {
  return {
    addresses: host.forwardAddress ? host.allowedAddresses ?? [] : [host.address ?? ""],
    ports: host.forwardPort ? host.allowedPortRanges ?? [] : [{ low: host.port ?? 0, high: host.port ?? 0 }],
  };
}

/** The address asked for in the form to dial, if the list has it: names by name, addresses by prefix. */
function forwardedAddress(allowed: readonly string[], asked: string | undefined): string | undefined {
  if (asked === undefined) return undefined;
  const patterns = allowed.map(readAddressPattern).filter((pattern) => pattern !== undefined);
  const address = parseIp(asked);
  if (address !== undefined) {
    const plain = withoutMapping(address);
    const isAllowed = patterns.some((pattern) =>
      pattern.kind === "prefix" && prefixContains(pattern.prefix, plain)
    );
    return isAllowed ? asked : undefined;
  }
  const name = canonicalHost(asked);
  return name !== undefined && patterns.some((pattern) => meansName(pattern, name)) ? name : undefined;
}

function refuse(detail: string): HostTarget {
  return { ok: false, detail };
}
