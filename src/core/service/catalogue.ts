/** What an agent knows of the services it may dial: which of them a name, or an address and port, means. */

import type { IpAddress, IpPrefix } from "../../base/ip.ts";
import type { PortRange } from "./intercept.ts";

/** What crosses in a flow. */
export type FlowProtocol = "tcp" | "udp" | "icmp";

/** How services appear in a network; part of every signed view. */
export interface ServiceNetwork {
  /** The DNS zone of services' names, without dots at its ends, such as `ginnel.internal`. */
  readonly zone: string;
  /** The /16 of virtual IPv4 addresses. */
  readonly ipv4: IpPrefix;
  /** The /64 of virtual IPv6 addresses. */
  readonly ipv6: IpPrefix;
}

/** A service as it appears on this machine. */
export interface CataloguedService {
  readonly name: string;
  /** Its number within the pools: the last 16 bits of both virtual addresses. */
  readonly index: number;
  readonly ipv4: IpAddress;
  readonly ipv6: IpAddress;
  /** Exact host names in lower case, `NAME.ZONE` first; sorted behind it. */
  readonly hosts: readonly string[];
  /** `*.example.com`. */
  readonly wildcards: readonly string[];
  /** Addresses beyond the virtual ones that mean this service. */
  readonly prefixes: readonly IpPrefix[];
  readonly protocols: readonly ("tcp" | "udp")[];
  /** Empty: every port. */
  readonly ports: readonly PortRange[];
  readonly endToEnd: "required" | "optional";
  /** SPIFFE IDs of those that may offer it. */
  readonly connectors: readonly string[];
  /** Milliseconds after which a UDP flow that carries nothing ends. */
  readonly idleTimeout: number;
}

/** What is asked of a name or an address. */
export interface ServiceQuestion {
  readonly protocol: FlowProtocol;
  /** Absent for ICMP. */
  readonly port?: number;
}
