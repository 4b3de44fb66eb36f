/** Which local addresses and ports lead to the services, where nothing is captured: pure, from the list to a plan. */

import type { CataloguedService } from "../../core/service/catalogue.ts";

/** Ports of one service that get a listener, for each protocol. */
export const MAX_PORTS = 64;

/** What is added to a port that cannot be had, because it needs a privilege or is taken. */
const SHIFT = 10_000;

/** One port of a service. */
export interface ServicePort {
  readonly service: string;
  readonly protocol: "tcp" | "udp";
  readonly port: number;
  /** The loopback address of the service. */
  readonly hostname: string;
}

/** Where a service is to appear. */
export interface PlannedService {
  readonly service: string;
  readonly hostname: string;
  readonly ports: readonly ServicePort[];
  /** What a person should know about ports that are missing. */
  readonly note?: string;
}

/** Plans the listeners of a service, below `127.BLOCK`. */
export function planService(service: CataloguedService, block: number): PlannedService {
  const { name, index, ports, protocols } = service;
  const hostname = `127.${block}.${index >> 8}.${index & 255}`;
  if (ports.length === 0) {
    return {
      service: name,
      hostname,
      ports: [],
      note: "has no ports of its own: reach it by SOCKS5 or a forward",
    };
  }
  const { first, count } = firstPorts(ports);
  const planned = protocols.flatMap((protocol) =>
    first.map((port): ServicePort => ({ service: name, protocol, port, hostname }))
  );
  if (count <= MAX_PORTS) return { service: name, hostname, ports: planned };
  const note = `only the first ${MAX_PORTS} of its ${count} ports: reach the others by SOCKS5`;
  return { service: name, hostname, ports: planned, note };
}

/** The port that stands in for one that cannot be had; undefined where there is none. */
export function substitutePort(port: number): number | undefined {
  return port + SHIFT > 65_535 ? undefined : port + SHIFT;
}

/** The lowest ports of possibly overlapping ranges, and how many there are in all. */
function firstPorts(
  ranges: CataloguedService["ports"],
): { readonly first: readonly number[]; readonly count: number } {
  const first: number[] = [];
  let count = 0;
  let next = 1;
  for (const { low, high } of ranges.toSorted((a, b) => a.low - b.low)) {
    const from = Math.max(low, next);
    if (from > high) continue;
    count += high - from + 1;
    for (let port = from; port <= high && first.length < MAX_PORTS; port++) first.push(port);
    next = high + 1;
  }
  return { first, count };
}
