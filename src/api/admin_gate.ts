/** The gate of `/api/v1`: who calls is known and permitted before a byte of the body is read. */

import type { MiddlewareHandler } from "hono";
import { accessFault, API_COLLECTIONS, type ApiCollection, type Principal } from "../core/network/access.ts";
import type { ApiEnv } from "./env.ts";
import { problem } from "./problem.ts";
import type { RateLimiter } from "./rate_limit.ts";
import { readBearer, unauthenticated } from "./require_node.ts";

/** What the gate needs. */
export interface AdminGateOptions {
  /** Where it stands: `/api/v1`. */
  readonly prefix: string;
  authenticate(bearer: string, context: { readonly remote: string }): Promise<Principal | undefined>;
  noteDenied(by: Principal, attempt: { readonly target: string; readonly reason: string }): Promise<void>;
  readonly byPrincipal: RateLimiter;
  /** Counts a refused authentication against its address. */
  readonly onRefused: (remote: string) => void;
}

/** What every authenticated caller may ask, whatever its role and scopes. */
const FOR_ALL = ["whoami", "version"];

/** Authenticates and authorises every request below the prefix; an unknown collection is refused too. */
export function adminGate(options: AdminGateOptions): MiddlewareHandler<ApiEnv> {
  const { prefix, byPrincipal } = options;
  return async (context, next) => {
    const remote = context.get("remote");
    const bearer = readBearer(context.req.header("authorization"));
    if (bearer === undefined) return unauthenticated("Send a token as Authorization: Bearer");
    const principal = await options.authenticate(bearer, { remote });
    if (principal === undefined) {
      options.onRefused(remote);
      context.get("logger").warn("api_authentication_refused");
      return unauthenticated("The token is unknown, expired or without rights here");
    }
    const wait = byPrincipal.take(principal.who);
    if (wait > 0) return problem("too-many-requests", { headers: { "retry-after": String(wait) } });
    context.set("principal", principal);
    const name = context.req.path.slice(prefix.length + 1).split("/")[0]!;
    if (FOR_ALL.includes(name)) return await next();
    if (!isCollection(name)) return problem("not-found");
    const { method } = context.req;
    const fault = accessFault(principal, {
      collection: name,
      write: method !== "GET" && method !== "HEAD",
    });
    if (fault !== undefined) {
      await options.noteDenied(principal, { target: `${method} ${name}`, reason: fault });
      const detail = fault === "role" ? `Your role ${principal.role} does not reach that far` : SCOPED;
      return problem("forbidden", { detail });
    }
    return await next();
  };
}

const SCOPED = "Your token is confined to other collections";

function isCollection(name: string): name is ApiCollection {
  return (API_COLLECTIONS as readonly string[]).includes(name);
}
