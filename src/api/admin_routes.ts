/** All routes of administrators, mounted under `/api/v1` behind the gate. */

import { createRoute, type OpenAPIHono, z } from "@hono/zod-openapi";
import { VERSION } from "../base/version.ts";
import type { AdminPort } from "./admin_port.ts";
import { type ApiEnv, createRouter } from "./env.ts";

/** Routes below `/api/v1`. */
export function adminRoutes(_admin: AdminPort): OpenAPIHono<ApiEnv> {
  const router = createRouter();
  router.openapi(
    createRoute({
      method: "get",
      path: "/version",
      security: [{ bearer: [] }],
      responses: {
        200: {
          description: "Of the controller",
          content: { "application/json": { schema: z.object({ name: z.string(), version: z.string() }) } },
        },
      },
    }),
    (context) => context.json({ name: "ginnel", version: VERSION }, 200),
  );
  return router;
}
