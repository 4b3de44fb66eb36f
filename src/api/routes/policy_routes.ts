/** Egress policies: every change is a new version, and one version at most is active. */

import type { OpenAPIHono } from "@hono/zod-openapi";
import type { Outcome } from "../../core/network/administration.ts";
import type { Principal } from "../../core/network/access.ts";
import type { Resource } from "../../core/network/resources.ts";
import type { AdminPort } from "../admin_port.ts";
import type { ApiEnv } from "../env.ts";
import { resourceAnswer } from "../present.ts";
import { refusal } from "../problem.ts";
import { addRoute } from "../route.ts";
import { body, idParams, json, queryFlag } from "../schema/common.ts";
import { policyInput, policyRevision } from "../schema/inputs.ts";
import { policyOutput } from "../schema/outputs.ts";
import { addRemoveRoute, currentRevision, defined, readRoutes, readWrite } from "./resource_routes.ts";

const TARGET = { kind: "egress-policy", collection: "policies" } as const;
const TAGS = [TARGET.collection];

/** Routes below `/policies`. */
export function policyRoutes(admin: AdminPort): OpenAPIHono<ApiEnv> {
  const router = readRoutes(admin, {
    ...TARGET,
    output: policyOutput,
    filters: { active: queryFlag, version: policyOutput.shape.version },
    searchOnly: true,
  });
  addRoute(
    router,
    {
      method: "post",
      path: "/",
      tags: TAGS,
      request: { body: body(policyInput) },
      responses: { 201: json("Made, not yet active", policyOutput) },
    } as const,
    async (context) => {
      const { name, ...spec } = context.req.valid("json");
      const by = context.get("principal");
      return made(await admin.createPolicy({ name, spec }, { by }), by);
    },
  );
  addRoute(
    router,
    {
      method: "put",
      path: "/{id}",
      tags: TAGS,
      request: { params: idParams, body: body(policyRevision) },
      responses: { 201: json("A new version beside this one, not yet active", policyOutput) },
    } as const,
    async (context) => {
      const { id } = context.req.valid("param");
      const write = await readWrite(context, () => currentRevision(admin, { kind: TARGET.kind, id }));
      if (write instanceof Response) return write;
      const { version, description, document, name } = context.req.valid("json");
      const input = { description, document, ...defined({ version, name }) };
      return made(await admin.revisePolicy(id, input, write), write.by);
    },
  );
  for (const action of ["activate", "deactivate"] as const) {
    addRoute(
      router,
      {
        method: "post",
        path: `/{id}/${action}` as const,
        tags: TAGS,
        request: { params: idParams },
        responses: { 200: json("As it is now", policyOutput) },
      } as const,
      async (context) => {
        const { id } = context.req.valid("param");
        const write = await readWrite(context, () => currentRevision(admin, { kind: TARGET.kind, id }));
        if (write instanceof Response) return write;
        const written = await admin.activatePolicy(id, action === "activate", write);
        return written.ok ? resourceAnswer(written.value, { to: write.by }) : refusal(written);
      },
    );
  }
  addRemoveRoute(router, admin, TARGET);
  return router;
}

function made(outcome: Outcome<Resource<typeof TARGET.kind>>, to: Principal): Response {
  if (!outcome.ok) return refusal(outcome);
  const location = `/api/v1/${TARGET.collection}/${outcome.value.id}`;
  return resourceAnswer(outcome.value, { to, status: 201, headers: { location } });
}
