/** What an agent knows of the services it may dial: which of them a name, or an address and port, means. */

import { formatIp, formatPrefix, type IpAddress, type IpPrefix, prefixContains } from "../../base/ip.ts";
import { canonicalHost, readAddressPattern } from "./address_pattern.ts";
import type { Intercept, PortRange } from "./intercept.ts";
import { accepts, choose } from "./service_choice.ts";
import { grouped, PrefixIndex } from "./service_tables.ts";
import { SERVICE_INDEXES, virtualAddress, virtualIndex } from "./virtual_address.ts";

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
  /** Milliseconds that opening a flow may take; the agent's own limit when absent. */
  readonly connectTimeout?: number;
}

/** What is asked of a name or an address. */
export interface ServiceQuestion {
  readonly protocol: FlowProtocol;
  /** Absent for ICMP. */
  readonly port?: number;
}

/** A service that an agent may dial, before it has names and addresses here. */
export interface DialableService {
  readonly service: string;
  readonly endToEnd: "required" | "optional";
  /** SPIFFE IDs of those that may offer it, sorted. */
  readonly connectors: readonly string[];
  /** Absent where the authority numbers no services: it can be dialled, but not captured. */
  readonly index?: number;
  readonly intercept?: Intercept;
  /** Milliseconds after which a UDP flow that carries nothing ends. */
  readonly idleTimeout: number;
}

/** Which service is meant, and what to tell its connector. */
export interface ServiceMatch {
  readonly service: CataloguedService;
  /** The name or address asked for, for `FlowTarget.address`; absent where it is the service's own. */
  readonly address?: string;
}

/** `unknown`: nobody's; `port`: a service is there, but not with this port or protocol. */
export type ServiceMismatch = "unknown" | "port";

/**
 * All services of an agent under their names and addresses; never changes. What is a service's own (`NAME.ZONE` and its
 * virtual addresses) means that service alone. Else the exact name comes before the longest wildcard, the longest prefix
 * before shorter ones; among equals the one with the fewest ports in the range asked for, then the first by name. Those
 * that do not take the port or protocol are passed over.
 */
export class ServiceCatalogue {
  readonly network: ServiceNetwork;
  readonly #services: readonly CataloguedService[];
  readonly #byName: ReadonlyMap<string, CataloguedService>;
  readonly #byIndex: ReadonlyMap<number, CataloguedService>;
  readonly #ownHosts: ReadonlyMap<string, CataloguedService>;
  readonly #byHost: ReadonlyMap<string, readonly CataloguedService[]>;
  /** By what follows `*.`. */
  readonly #bySuffix: ReadonlyMap<string, readonly CataloguedService[]>;
  readonly #byPrefix: PrefixIndex;

  constructor(services: readonly DialableService[], network: ServiceNetwork) {
    this.network = network;
    const sorted = services.toSorted((a, b) => a.service < b.service ? -1 : a.service > b.service ? 1 : 0);
    const byIndex = new Map<number, CataloguedService>();
    for (const service of sorted) {
      const { index } = service;
      // Two authorities may give one number to two services: the first by name has it.
      if (index === undefined || index < SERVICE_INDEXES.first || index > SERVICE_INDEXES.last) continue;
      if (!byIndex.has(index)) byIndex.set(index, catalogued({ ...service, index }, network));
    }
    this.#services = [...byIndex.values()];
    this.#byIndex = byIndex;
    this.#byName = new Map(this.#services.map((service) => [service.name, service]));
    this.#ownHosts = new Map(this.#services.map((service) => [service.hosts[0]!, service]));
    this.#byHost = grouped(this.#services, ({ hosts }) => hosts.slice(1));
    this.#bySuffix = grouped(this.#services, ({ wildcards }) => wildcards.map((text) => text.slice(2)));
    this.#byPrefix = new PrefixIndex(this.#services);
  }

  /** Sorted by name. */
  services(): readonly CataloguedService[] {
    return this.#services;
  }

  /** The service of this name, without the zone. */
  byName(name: string): CataloguedService | undefined {
    return this.#byName.get(name);
  }

  /** The service whose own virtual address this is. */
  byVirtualAddress(address: IpAddress): CataloguedService | undefined {
    const index = virtualIndex(this.network, address);
    return index === undefined ? undefined : this.#byIndex.get(index);
  }

  /** The service whose `NAME.ZONE` a host name is. */
  byOwnHost(host: string): CataloguedService | undefined {
    return this.#ownHosts.get(canonicalHost(host) ?? "");
  }

  /** Which service a host name and port mean. */
  matchHost(host: string, question: ServiceQuestion): ServiceMatch | ServiceMismatch {
    const name = canonicalHost(host);
    if (name === undefined) return "unknown";
    const own = this.#ownHosts.get(name);
    if (own !== undefined) return accepts(own, question) ? { service: own } : "port";
    return choose(this.#atHost(name), { question, address: name });
  }

  /** Which service an address and port mean. Addresses invented for names are asked for by those names. */
  matchAddress(address: IpAddress, question: ServiceQuestion): ServiceMatch | ServiceMismatch {
    const { ipv4, ipv6 } = this.network;
    if (prefixContains(address.version === 4 ? ipv4 : ipv6, address)) {
      const service = this.byVirtualAddress(address);
      if (service === undefined) return "unknown";
      return accepts(service, question) ? { service } : "port";
    }
    return choose(this.#byPrefix.at(address), { question, address: formatIp(address) });
  }

  /** Whether a name is a service's: its own, intercepted, or below a wildcard. */
  hasName(host: string): boolean {
    return this.atHost(host).length > 0;
  }

  /** The services a name may mean, the likeliest first; with one of its own that one alone. */
  atHost(host: string): readonly CataloguedService[] {
    const name = canonicalHost(host);
    if (name === undefined) return [];
    const own = this.#ownHosts.get(name);
    return own === undefined ? [...this.#atHost(name)].flat() : [own];
  }

  /** Whether some service intercepts an address that is nobody's own virtual one. */
  intercepts(address: IpAddress): boolean {
    const { ipv4, ipv6 } = this.network;
    if (prefixContains(address.version === 4 ? ipv4 : ipv6, address)) return false;
    return this.#byPrefix.at(address).next().done !== true;
  }

  /** The prefixes beyond the pools that must be routed here, each once, sorted. */
  prefixes(): readonly IpPrefix[] {
    const texts = new Map<string, IpPrefix>();
    for (const { prefixes } of this.#services) {
      for (const prefix of prefixes) texts.set(formatPrefix(prefix), prefix);
    }
    return [...texts].sort(([a], [b]) => a < b ? -1 : 1).map(([, prefix]) => prefix);
  }

  /** DNS domains whose names are asked of this machine's agent: the zone first, the others sorted. */
  zones(): readonly string[] {
    const { zone } = this.network;
    const names = new Set([...this.#byHost.keys(), ...this.#bySuffix.keys()]);
    const isInside = (name: string) => name === zone || name.endsWith(`.${zone}`);
    return [zone, ...[...names].filter((name) => !isInside(name)).sort()];
  }

  /** Candidates of a name that is nobody's own, in groups of equal rank. */
  *#atHost(name: string): Generator<readonly CataloguedService[], void, void> {
    const exact = this.#byHost.get(name);
    if (exact !== undefined) yield exact;
    if (this.#bySuffix.size === 0) return;
    for (let dot = name.indexOf("."); dot >= 0; dot = name.indexOf(".", dot + 1)) {
      const group = this.#bySuffix.get(name.slice(dot + 1));
      if (group !== undefined) yield group;
    }
  }
}

function catalogued(
  dialable: DialableService & { readonly index: number },
  network: ServiceNetwork,
): CataloguedService {
  const { service: name, index, intercept, endToEnd, connectors, idleTimeout } = dialable;
  const hosts = new Set<string>();
  const wildcards = new Set<string>();
  const prefixes = new Map<string, IpPrefix>();
  const own = `${name}.${network.zone}`;
  for (const text of intercept?.addresses ?? []) {
    const pattern = readAddressPattern(text);
    if (pattern?.kind === "host" && pattern.host !== own) hosts.add(pattern.host);
    if (pattern?.kind === "wildcard") wildcards.add(`*.${pattern.suffix}`);
    if (pattern?.kind === "prefix") prefixes.set(text, pattern.prefix);
  }
  return {
    name,
    index,
    ipv4: virtualAddress(network, 4, index),
    ipv6: virtualAddress(network, 6, index),
    hosts: [own, ...[...hosts].sort()],
    wildcards: [...wildcards].sort(),
    prefixes: [...prefixes.values()],
    protocols: intercept === undefined ? BOTH : [...new Set(intercept.protocols)].sort(),
    ports: intercept?.portRanges ?? [],
    endToEnd,
    connectors,
    idleTimeout,
    ...(intercept?.dialOptions?.connectTimeoutSeconds !== undefined && {
      connectTimeout: intercept.dialOptions.connectTimeoutSeconds * 1_000,
    }),
  };
}

const BOTH = ["tcp", "udp"] as const;
