/** Adds documented routes to a router: the inputs are checked by the route's schemas, the answer is a plain Response. */

import type { OpenAPIHono, RouteConfig, RouteHandler } from "@hono/zod-openapi";
import type { ApiEnv } from "./env.ts";
import { PROBLEMS } from "./schema/common.ts";

/** A handler's context for one route. */
type RouteContext<R extends RouteConfig> = Parameters<RouteHandler<R, ApiEnv>>[0];

/** Adds a route of administrators: with its problems and its authentication in the document. */
export function addRoute<P extends string, R extends Omit<RouteConfig, "path"> & { path: P }>(
  router: OpenAPIHono<ApiEnv>,
  route: R,
  handler: (context: RouteContext<R>) => Promise<Response>,
): void {
  const documented = {
    security: [{ bearer: [] }],
    ...route,
    responses: { ...PROBLEMS, ...route.responses },
  };
  // The library types answers by the schemas; that they agree with what is sent is held by a test on the running server.
  router.openapi(documented as unknown as R, handler as unknown as RouteHandler<R, ApiEnv>);
}
