/** Middleware for routes that nodes call: the caller shows a proof made for this controller and this request. */

import type { MiddlewareHandler } from "hono";
import { errorCode, errorMessage } from "../base/errors.ts";
import { IdentityError } from "../identity/errors.ts";
import type { ApiEnv } from "./env.ts";
import { problem } from "./problem.ts";

/** Who may call. */
export interface RequireNodeOptions {
  /** Kinds of identity admitted; absent: all. */
  readonly kinds?: readonly string[];
}

/** Admits only nodes with a valid proof and leaves who it is in `c.get("node")`. */
export function requireNode({ kinds }: RequireNodeOptions = {}): MiddlewareHandler<ApiEnv> {
  return async (context, next) => {
    const token = readBearer(context.req.header("authorization"));
    if (token === undefined) return unauthenticated("Send a proof as Authorization: Bearer");
    try {
      const node = await context.get("verifyProof")(token);
      if (kinds !== undefined && !kinds.includes(node.id.kind)) {
        return problem("forbidden", { detail: `Only for ${kinds.join(", ")}` });
      }
      context.set("node", node);
    } catch (error) {
      if (!(error instanceof IdentityError)) throw error;
      context.get("logger").debug("node_refused", { code: errorCode(error), remote: context.get("remote") });
      return unauthenticated(errorMessage(error));
    }
    return await next();
  };
}

/** The token of a Bearer authorization, or undefined. */
export function readBearer(header: string | undefined): string | undefined {
  if (header === undefined) return undefined;
  // RFC 6750 §2.1: one token of these characters and nothing else; RFC 9110 §11.1: the scheme's case does not matter.
  return /^bearer +([A-Za-z0-9._~+/-]+=*)$/i.exec(header)?.[1];
}

/** The answer to a caller that did not show who it is. */
export function unauthenticated(detail: string): Response {
  // RFC 9110 §15.5.2: a 401 says how to authenticate.
  return problem("unauthenticated", { detail, headers: { "www-authenticate": 'Bearer realm="ginnel"' } });
}
