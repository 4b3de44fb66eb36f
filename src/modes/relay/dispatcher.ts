/**
 * What a request at the relay means: method, protocol and path choose the handler, and everything else is
 * refused. Every handler but the browser's session runs for an admitted peer only.
 */

import { parseHostPort } from "../../base/address.ts";
import type { RequestHead, ServerRequest } from "../../dataplane/carrier.ts";
import { type IpScope, parseMasquePath, type Target } from "../../wire/masque/uri.ts";
import { AVOID_HEADER, PARK_PROTOCOL, PROTOCOL_HEADER, SEALED_HEADER } from "../shared/relay_protocol.ts";
import { serviceOfHost } from "../shared/service_host.ts";

/** A request understood. */
export type Route =
  | { readonly kind: "view" }
  | { readonly kind: "connector" }
  | { readonly kind: "park" }
  | { readonly kind: "park_caller" }
  | { readonly kind: "browser" }
  | { readonly kind: "session"; readonly connector: string }
  | ({ readonly kind: "tcp" } & FlowRoute)
  | ({ readonly kind: "udp" } & FlowRoute)
  | ({ readonly kind: "icmp" } & FlowRoute)
  | ({ readonly kind: "ip" } & IpRequest)
  | { readonly kind: "refuse"; readonly status: 400 | 404 | 405 | 501 };

/** An IP tunnel asked for. */
export interface IpRequest extends IpScope {
  readonly dialect: "rfc9484" | "zgate";
}

/** A flow asked for. */
export interface FlowRoute {
  readonly service: string;
  readonly port: number;
  readonly framing: FlowFraming;
}

/** How what a flow carries travels in the request's body. */
export type FlowFraming = "sealed" | "raw" | "capsules";

/** Reads what a request asks for. */
export function routeRequest(head: RequestHead): Route {
  if (head.method === "GET") return routeGet(head);
  if (head.method !== "CONNECT") return { kind: "refuse", status: 405 };
  return head.protocol === undefined ? routeClassicConnect(head) : routeExtendedConnect(head);
}

/** Connector instances the caller wants to avoid. */
export function avoidedInstances(request: ServerRequest): ReadonlySet<string> {
  const value = request.head.headers.get(AVOID_HEADER);
  return new Set(value === undefined ? [] : value.split(",").map((part) => part.trim()).slice(0, 16));
}

function routeGet(head: RequestHead): Route {
  const path = parseMasquePath(head.path ?? "");
  if (path?.kind === "view") return { kind: "view" };
  return { kind: "refuse", status: path === undefined ? 404 : 405 };
}

function routeClassicConnect(head: RequestHead): Route {
  // The older dialect names its protocol in a header of a plain CONNECT.
  if (head.headers.get("protocol") === "connect-ip") {
    return { kind: "ip", target: "*", ipproto: "*", dialect: "zgate" };
  }
  let target;
  try {
    target = parseHostPort(head.authority ?? "");
  } catch {
    return { kind: "refuse", status: 400 };
  }
  return flowRoute("tcp", { host: target.hostname, port: target.port }, "raw");
}

function routeExtendedConnect(head: RequestHead): Route {
  const path = parseMasquePath(head.path ?? "");
  switch (head.protocol) {
    case "connect-tcp":
      if (path?.kind === "session") return { kind: "session", connector: path.connector };
      if (path?.kind !== "tcp") return { kind: "refuse", status: 404 };
      return flowRoute("tcp", path, isSealed(head) ? "sealed" : "capsules");
    case "connect-udp":
      if (path?.kind !== "udp") return { kind: "refuse", status: 404 };
      return routeDatagrams(head, path);
    case "connect-ip":
      if (path?.kind !== "ip") return { kind: "refuse", status: 404 };
      return { kind: "ip", target: path.target, ipproto: path.ipproto, dialect: "rfc9484" };
    case "webtransport":
      if (path?.kind === "connector") return { kind: "connector" };
      if (path?.kind === "agent") return { kind: "browser" };
      return { kind: "refuse", status: 404 };
    case PARK_PROTOCOL:
      if (path?.kind === "connector") return { kind: "park" };
      return path?.kind === "agent" ? { kind: "park_caller" } : { kind: "refuse", status: 404 };
    default:
      // RFC 9220 §3: an unknown :protocol is answered with 501.
      return { kind: "refuse", status: 501 };
  }
}

function routeDatagrams(head: RequestHead, target: Target): Route {
  if (!isSealed(head)) return flowRoute("udp", target, "capsules");
  const protocol = head.headers.get(PROTOCOL_HEADER) ?? "udp";
  if (protocol !== "udp" && protocol !== "icmp") return { kind: "refuse", status: 501 };
  return flowRoute(protocol, target, "sealed");
}

function isSealed(head: RequestHead): boolean {
  return head.headers.get(SEALED_HEADER) === "?1";
}

function flowRoute(kind: "tcp" | "udp" | "icmp", { host, port }: Target, framing: FlowFraming): Route {
  const service = serviceOfHost(host);
  // A name no service can have is refused like any other that policy does not allow: 403, by the broker.
  return { kind, service: service ?? "", port, framing };
}
