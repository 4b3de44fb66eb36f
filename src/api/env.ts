/** What middleware leaves for the handlers of one request. */

import { OpenAPIHono } from "@hono/zod-openapi";
import type { Logger } from "../base/log.ts";
import type { Principal } from "../core/network/access.ts";
import type { VerifiedProof } from "../identity/proof.ts";
import { rejectInput } from "./problem.ts";

/** Hono's environment of every router of the API. */
export interface ApiEnv {
  Bindings: {
    /** Where the connection comes from. */
    remote: string;
  };
  Variables: {
    /** IP address of the other end of the connection; never taken from a header. */
    remote: string;
    logger: Logger;
    /** Verifies a proof for this controller; throws an `IdentityError`. */
    verifyProof: (token: string) => Promise<VerifiedProof>;
    /** The administrator, on routes under `/api/v1`. */
    principal: Principal;
    /** The node, behind `requireNode`. */
    node: VerifiedProof;
  };
}

/** A router whose refused inputs are answered in the API's one form; node routers are made by it too. */
export function createRouter(): OpenAPIHono<ApiEnv> {
  return new OpenAPIHono<ApiEnv>({ defaultHook: rejectInput });
}
