/** Which service a host name or address of a proxy's client means: by the catalogue of this agent, where it has one. */

import { type IpAddress, parseIp } from "../../base/ip.ts";
import type {
  ServiceCatalogue,
  ServiceMatch,
  ServiceMismatch,
  ServiceQuestion,
} from "../../core/service/catalogue.ts";
import { serviceOfHost } from "../shared/service_host.ts";
import { type FlowFailure, type FlowTarget, FlowUnavailableError, type ResolveTarget } from "./local_flow.ts";

/**
 * Resolves by the catalogue as it is at each question. Names that it does not know but that may be a service's are passed
 * on: the dialer refuses them, and lets the relay write it into its audit log. `nameOf` knows the names for which
 * addresses were invented here.
 */
export function catalogueResolver(
  catalogue: () => ServiceCatalogue | undefined,
  nameOf: (address: IpAddress) => string | undefined = () => undefined,
): ResolveTarget {
  return (asked, question) => {
    const known = catalogue();
    const address = parseIp(asked);
    const host = (address && nameOf(address)) ?? asked;
    const match = known === undefined ? "unknown" : matchIn(known, host, question);
    if (match === "port") throw new FlowUnavailableError(CLOSED_PORT);
    return match === "unknown"
      ? targetByName(known === undefined ? host : withoutZone(host, known), question)
      : targetOf(match, question);
  };
}

function matchIn(
  catalogue: ServiceCatalogue,
  host: string,
  question: ServiceQuestion,
): ServiceMatch | ServiceMismatch {
  const address = parseIp(host);
  if (address !== undefined) return catalogue.matchAddress(address, question);
  const match = catalogue.matchHost(host, question);
  return match === "unknown"
    ? catalogue.matchHost(`${host.replace(/\.$/, "")}.${catalogue.network.zone}`, question)
    : match;
}

function targetOf({ service, address }: ServiceMatch, { port }: { readonly port: number }): FlowTarget {
  return { service: service.name, port, ...(address !== undefined && { address }) };
}

function targetByName(host: string, { port }: { readonly port: number }): FlowTarget {
  const service = parseIp(host) === undefined ? serviceOfHost(host) : undefined;
  if (service === undefined) throw new FlowUnavailableError(FOREIGN_HOST);
  return { service, port };
}

function withoutZone(host: string, { network: { zone } }: ServiceCatalogue): string {
  const lower = host.toLowerCase();
  const bare = lower.endsWith(".") ? lower.slice(0, -1) : lower;
  return bare.endsWith(`.${zone}`) ? bare.slice(0, -zone.length - 1) : host;
}

const FOREIGN_HOST: FlowFailure = {
  status: 403,
  error: "http_request_denied",
  details: "only services of this network are reachable, by name",
};

const CLOSED_PORT: FlowFailure = {
  status: 502,
  error: "connection_refused",
  details: "the service is not offered at this port and protocol",
};
