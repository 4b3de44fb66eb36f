/** API tokens: their text is in the answer that makes them and nowhere else. */

import { type OpenAPIHono, z } from "@hono/zod-openapi";
import type { AdminPort } from "../admin_port.ts";
import type { ApiEnv } from "../env.ts";
import { present } from "../present.ts";
import { refusal } from "../problem.ts";
import { addRoute } from "../route.ts";
import { body, json } from "../schema/common.ts";
import { apiTokenInput } from "../schema/inputs.ts";
import { apiTokenOutput } from "../schema/outputs.ts";
import { addRemoveRoute, readRoutes } from "./resource_routes.ts";

const newToken = z.object({
  ...apiTokenOutput.shape,
  /** Shown once. */
  token: z.string(),
}).openapi("NewApiToken");

/** Routes below `/api-tokens`. */
export function tokenRoutes(admin: AdminPort): OpenAPIHono<ApiEnv> {
  const kind = "api-token";
  const collection = "api-tokens";
  const router = readRoutes(admin, {
    kind,
    collection,
    output: apiTokenOutput,
    filters: { role: apiTokenOutput.shape.role },
  });
  addRoute(
    router,
    {
      method: "post",
      path: "/",
      tags: [collection],
      request: { body: body(apiTokenInput) },
      responses: { 201: json("The token, shown once", newToken) },
    } as const,
    async (context) => {
      const { name, role, scopes, expiresAt } = context.req.valid("json");
      const by = context.get("principal");
      const spec = { role, scopes, expiresAt: expiresAt === null ? null : Date.parse(expiresAt) };
      const made = await admin.createToken({ name, spec }, { by });
      if (!made.ok) return refusal(made);
      const { resource, token } = made.value;
      const headers = { location: `/api/v1/${collection}/${resource.id}`, etag: `"${resource.revision}"` };
      return Response.json({ ...present(resource, by), token }, { status: 201, headers });
    },
  );
  addRemoveRoute(router, admin, { kind, collection });
  return router;
}
