/** What the API asks of the controller that serves it; modes put the parts behind these ports. */

import type { OpenAPIHono } from "@hono/zod-openapi";
import type { Logger } from "../base/log.ts";
import type { Principal } from "../core/network/access.ts";
import type { VerifiedProof } from "../identity/proof.ts";
import type { AdminPort } from "./admin_port.ts";
import type { ApiEnv } from "./env.ts";
import type { Rate } from "./rate_limit.ts";

/** Everything the API needs. */
export interface ApiPorts {
  readonly admin: AdminPort;
  /** Who shows this bearer token; undefined: nobody with rights at the API. */
  authenticate(bearer: string, context: { readonly remote: string }): Promise<Principal | undefined>;
  /** Verifies a proof for this controller by a node that is known and enabled; throws an `IdentityError`. */
  verifyProof(token: string): Promise<VerifiedProof>;
  readonly nodeRouters: readonly NodeRouterMount[];
  health(): HealthReport | Promise<HealthReport>;
  readonly logger: Logger;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  readonly limits?: Partial<ApiLimits>;
}

/** Routes for nodes and users, and how much of them one address may ask for. */
export interface NodeRouterMount {
  /** Such as `/sync/v1`. */
  readonly path: string;
  readonly router: OpenAPIHono<ApiEnv>;
  /** `strict` for what anybody may call, such as enrolment; `node` (default) for what shows a proof. */
  readonly rate?: "strict" | "node";
  /** Largest body in bytes; default 64 KiB. */
  readonly maxBody?: number;
}

/** The controller's state, as `/health` and `/ready` show it to anybody. */
export interface HealthReport {
  /** Whether it can do its work now. */
  readonly ready: boolean;
  /** Milliseconds. */
  readonly uptime: number;
}

/** Bounds of what one address and one caller may ask for. */
export interface ApiLimits {
  /** One address at `/api/v1`. */
  readonly admin: Rate;
  /** One address at routes of nodes. */
  readonly node: Rate;
  /** One address at routes that need no proof. */
  readonly strict: Rate;
  /** One authenticated caller at `/api/v1`, whatever its address. */
  readonly principal: Rate;
  /** Milliseconds for a whole body. */
  readonly bodyTimeoutMs: number;
}
