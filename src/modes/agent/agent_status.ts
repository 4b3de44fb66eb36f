/** How an agent is, as `ginnel status` tells it. */

import { formatIp } from "../../base/ip.ts";
import type { CataloguedService } from "../../core/service/catalogue.ts";
import { type NodeStatus, type StatusProblem, time } from "../shared/node_status.ts";
import type { LocalPlace } from "./auto_forward.ts";
import type { LiveCatalogue } from "./live_catalogue.ts";
import type { ServiceUsage } from "./service_usage.ts";

/** Everything an agent tells. */
export interface AgentStatus extends NodeStatus {
  readonly mode: "agent";
  /** The DNS zone of services' names; absent while unknown. */
  readonly zone?: string;
  readonly services: readonly ServiceStatus[];
  /** Local listeners by name, such as `socks5`, with their addresses. */
  readonly listeners: readonly { readonly name: string; readonly address: string }[];
  /** What parts of the agent tell of themselves, such as `capture`, `dns` and `tunnel`. */
  readonly parts: Readonly<Record<string, PartStatus>>;
}

/** How one part of the agent is. */
export interface PartStatus {
  readonly state: "on" | "off" | "failed";
  /** What a person should know, such as the interface's name. */
  readonly detail?: string;
  /** What to do where it failed. */
  readonly hint?: string;
}

/** One service. */
export interface ServiceStatus {
  readonly name: string;
  readonly names: readonly string[];
  readonly addresses: { readonly ipv4: string; readonly ipv6: string; readonly local?: string };
  /** `80`, `8000-8100`; empty: every port. */
  readonly ports: readonly string[];
  readonly protocols: readonly string[];
  readonly endToEnd: string;
  /** The way that the last flow took. */
  readonly path?: ServicePath;
  readonly flows: number;
  readonly lastUsed?: string;
  readonly notes: readonly string[];
}

/** How the last flow reached its service: through which relay and by what, to which connector. */
export interface ServicePath {
  readonly kind: "relay" | "direct";
  readonly relay: string;
  readonly connector: string;
  readonly carrier: string;
}

/** What the status of services is made of. */
export interface ServiceSources {
  readonly catalogue: LiveCatalogue;
  readonly usage: ReadonlyMap<string, ServiceUsage>;
  /** Where services are in 127.0.0.0/8. */
  readonly places: ReadonlyMap<string, LocalPlace>;
}

/** Tells how every granted service is. */
export function serviceStatuses({ catalogue, usage, places }: ServiceSources): ServiceStatus[] {
  const services = catalogue.isValid ? catalogue.current?.services() ?? [] : [];
  return services.map((service) =>
    serviceStatus(service, { usage: usage.get(service.name), place: places.get(service.name) })
  );
}

/** What is wrong with parts that the config asks for. */
export function partProblems(parts: Readonly<Record<string, PartStatus>>): StatusProblem[] {
  return Object.entries(parts).filter(([, { state }]) => state === "failed").map((
    [name, { detail, hint }],
  ) => ({
    text: detail === undefined ? `${name} does not work` : `${name}: ${detail}`,
    hint: hint ?? "Find out what is in the way: ginnel doctor",
  }));
}

function serviceStatus(
  { name, hosts, wildcards, ...service }: CataloguedService,
  { usage, place }: { readonly usage: ServiceUsage | undefined; readonly place: LocalPlace | undefined },
): ServiceStatus {
  return {
    name,
    names: [...hosts, ...wildcards],
    addresses: {
      ipv4: formatIp(service.ipv4),
      ipv6: formatIp(service.ipv6),
      ...(place !== undefined && { local: place.address }),
    },
    ports: service.ports.map(({ low, high }) => low === high ? `${low}` : `${low}-${high}`),
    protocols: service.protocols,
    endToEnd: service.endToEnd,
    flows: usage?.flows ?? 0,
    ...(usage !== undefined && { path: pathOf(usage), lastUsed: time(usage.lastUsed) }),
    notes: place?.notes ?? [],
  };
}

function pathOf({ lastPath: { relay, connector, carrier, direct } }: ServiceUsage): ServicePath {
  return { kind: direct ? "direct" : "relay", relay, connector, carrier };
}
