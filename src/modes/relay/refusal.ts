/**
 * How a relay says no: a status that means what HTTP says, and `Proxy-Status` (RFC 9209) with the reason.
 */

import type { ServerRequest } from "../../dataplane/carrier.ts";
import { parseMasquePath } from "../../wire/masque/uri.ts";
import { encodeProxyStatus } from "../../wire/proxy_status.ts";

/** A refused request. `error` is a proxy error type of RFC 9209 §2.3; `details` is shown to the peer. */
export interface Refusal {
  readonly status: number;
  readonly error: string;
  readonly details: string;
}

/** The refusals a relay gives. One value each, so that tests, audit and README speak of the same list. */
export const REFUSALS = {
  noProof: { status: 401, error: "http_request_denied", details: "no proof of identity" },
  badProof: { status: 401, error: "http_request_denied", details: "proof of identity refused" },
  denied: { status: 403, error: "http_request_denied", details: "no policy allows this" },
  sealedOnly: {
    status: 403,
    error: "http_request_denied",
    details: "service requires end-to-end encryption",
  },
  notFound: { status: 404, error: "http_request_error", details: "no such resource" },
  badRequest: { status: 400, error: "http_request_error", details: "request not understood" },
  tooManyFlows: {
    status: 429,
    error: "connection_limit_reached",
    details: "too many flows of this identity",
  },
  viewOpen: {
    status: 429,
    error: "connection_limit_reached",
    details: "this connection has its view already",
  },
  noConnector: { status: 503, error: "destination_unavailable", details: "no connector online" },
  noAddress: { status: 503, error: "destination_unavailable", details: "address pool exhausted" },
  noController: {
    status: 503,
    error: "destination_unavailable",
    details: "controller unavailable: no address for a new client",
  },
  noTunnelsYet: {
    status: 503,
    error: "destination_unavailable",
    details: "IP tunnels are being set up",
  },
  noTunnels: { status: 501, error: "http_request_error", details: "no IP tunnels here" },
  unresolved: { status: 502, error: "dns_error", details: "target has no address" },
  draining: { status: 503, error: "destination_unavailable", details: "relay is draining" },
  upstreamRefused: { status: 502, error: "connection_refused", details: "upstream refused" },
  upstreamTimeout: { status: 504, error: "connection_timeout", details: "upstream timed out" },
} as const satisfies Record<string, Refusal>;

/** Answers a request with a refusal and ends it. */
export async function refuseRequest(
  request: ServerRequest,
  refusal: Refusal,
  options: { readonly proxy: string },
): Promise<void> {
  const { status, error, details } = refusal;
  const headers: [string, string][] = [[
    "proxy-status",
    encodeProxyStatus({ proxy: options.proxy, error, details }),
  ]];
  // RFC 9110 §15.5.2: a 401 says how to authenticate.
  if (status === 401) headers.push(["www-authenticate", "Bearer"]);
  // RFC 9110 §15.5.6: a 405 says what would be allowed.
  if (status === 405) headers.push(["allow", allowedMethod(request)]);
  await request.respond({ status, headers }, { end: true });
}

function allowedMethod({ head }: ServerRequest): string {
  return parseMasquePath(head.path ?? "")?.kind === "view" ? "GET" : "CONNECT";
}
