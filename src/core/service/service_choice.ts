/** Which of several services under one name or address takes a port and protocol. */

import type { CataloguedService, ServiceMatch, ServiceMismatch, ServiceQuestion } from "./catalogue.ts";

/** The service of the first group that takes it, of several there the one with the fewest ports around. */
export function choose(
  groups: Iterable<readonly CataloguedService[]>,
  { question, address }: { readonly question: ServiceQuestion; readonly address: string },
): ServiceMatch | ServiceMismatch {
  let isKnown = false;
  for (const group of groups) {
    isKnown = true;
    let best: CataloguedService | undefined;
    let fewest = Infinity;
    for (const service of group) {
      const size = portsAround(service, question);
      if (size < fewest) [best, fewest] = [service, size];
    }
    if (best !== undefined) return { service: best, address };
  }
  return isKnown ? "port" : "unknown";
}

/** Whether a service takes a port and protocol. */
export function accepts(service: CataloguedService, question: ServiceQuestion): boolean {
  return portsAround(service, question) < Infinity;
}

/** How many ports the smallest range has that holds the one asked for; infinite when the service does not take it. */
function portsAround({ protocols, ports }: CataloguedService, { protocol, port }: ServiceQuestion): number {
  if (protocol === "icmp") return 0;
  if (!protocols.includes(protocol)) return Infinity;
  if (ports.length === 0) return 65_536;
  let fewest = Infinity;
  for (const { low, high } of ports) {
    if (port !== undefined && low <= port && port <= high) fewest = Math.min(fewest, high - low + 1);
  }
  return fewest;
}
