/** Identities: the common routes, and what only an identity has: enrolments, disabling, resetting. */

import { type OpenAPIHono, z } from "@hono/zod-openapi";
import { ADMIN_ROLES } from "../../core/network/resources.ts";
import type { AdminPort, EnrolmentSummary } from "../admin_port.ts";
import type { ApiEnv } from "../env.ts";
import { isoTime, resourceAnswer } from "../present.ts";
import { refusal } from "../problem.ts";
import { addRoute } from "../route.ts";
import { idParams, isoTime as isoTimeSchema, json, NO_CONTENT, pageOf, queryFlag } from "../schema/common.ts";
import { identityEdit, identityInput } from "../schema/inputs.ts";
import { identityOutput } from "../schema/outputs.ts";
import { problem } from "../problem.ts";
import { currentRevision, plainRoutes, readWrite } from "./resource_routes.ts";

const enrolment = z.object({
  id: z.string(),
  createdAt: isoTimeSchema,
  expiresAt: isoTimeSchema,
  usedAt: isoTimeSchema.nullable(),
}).openapi("Enrolment");

const enrolmentToken = z.object({
  ...enrolment.shape,
  /** Shown once. */
  token: z.string(),
}).openapi("EnrolmentToken");

const enrolmentInput = z.strictObject({
  /** Seconds until it expires. */
  ttlSeconds: z.int().min(60).max(30 * 86_400).optional(),
}).openapi("EnrolmentInput");

const COLLECTION = "identities";
const TAGS = [COLLECTION];

/** Routes below `/identities`. */
export function identityRoutes(admin: AdminPort): OpenAPIHono<ApiEnv> {
  const router = plainRoutes(admin, {
    kind: "identity",
    collection: COLLECTION,
    input: identityInput,
    edit: identityEdit,
    output: identityOutput,
    hasAttributes: true,
    filters: {
      type: identityOutput.shape.type,
      disabled: queryFlag,
      origin: identityOutput.shape.origin,
      spiffeId: z.string().max(2_048),
      adminRole: z.enum(ADMIN_ROLES),
      externalId: z.string().max(4_096),
    },
    hiddenFilters: ["adminRole", "externalId"],
  });
  addStateRoutes(router, admin);
  addEnrolmentRoutes(router, admin);
  return router;
}

function addStateRoutes(router: OpenAPIHono<ApiEnv>, admin: AdminPort): void {
  for (const action of ["disable", "enable", "reset"] as const) {
    addRoute(
      router,
      {
        method: "post",
        path: `/{id}/${action}` as const,
        tags: TAGS,
        request: { params: idParams },
        responses: { 200: json("As it is now", identityOutput) },
      } as const,
      async (context) => {
        const { id } = context.req.valid("param");
        const target = { kind: "identity", id } as const;
        const write = await readWrite(context, () => currentRevision(admin, target));
        if (write instanceof Response) return write;
        const written = action === "reset"
          ? await admin.resetIdentity(id, write)
          : await admin.update(target, { spec: { disabled: action === "disable" } }, write);
        return written.ok ? resourceAnswer(written.value, { to: write.by }) : refusal(written);
      },
    );
  }
}

function addEnrolmentRoutes(router: OpenAPIHono<ApiEnv>, admin: AdminPort): void {
  const path = "/{id}/enrolments" as const;
  addRoute(
    router,
    {
      method: "post",
      path,
      tags: TAGS,
      request: {
        params: idParams,
        body: { required: false, content: { "application/json": { schema: enrolmentInput } } },
      },
      responses: { 201: json("A one-time token, shown once", enrolmentToken) },
    } as const,
    async (context) => {
      const { ttlSeconds } = context.req.valid("json");
      const made = await admin.createEnrolment(
        context.req.valid("param").id,
        ttlSeconds === undefined ? {} : { ttlMs: ttlSeconds * 1_000 },
        { by: context.get("principal") },
      );
      if (!made.ok) return refusal(made);
      const { token, enrolment } = made.value;
      return Response.json({ ...showEnrolment(enrolment), token }, { status: 201 });
    },
  );
  addRoute(
    router,
    {
      method: "get",
      path,
      tags: TAGS,
      request: { params: idParams },
      responses: { 200: json("All of the identity, without their tokens", pageOf(enrolment)) },
    } as const,
    async (context) => {
      const { id } = context.req.valid("param");
      if (await admin.get("identity", id) === undefined) return problem("not-found");
      const data = (await admin.enrolments(id)).map(showEnrolment);
      return Response.json({ data, meta: { cursor: null, total: data.length } });
    },
  );
  addRoute(
    router,
    {
      method: "delete",
      path,
      tags: TAGS,
      request: { params: idParams },
      responses: { 204: NO_CONTENT },
    } as const,
    async (context) => {
      const by = context.get("principal");
      const removed = await admin.removeEnrolments(context.req.valid("param").id, { by });
      return removed.ok ? new Response(null, { status: 204 }) : refusal(removed);
    },
  );
}

function showEnrolment({ id, createdAt, expiresAt, usedAt }: EnrolmentSummary) {
  return {
    id,
    createdAt: isoTime(createdAt),
    expiresAt: isoTime(expiresAt),
    usedAt: usedAt === null ? null : isoTime(usedAt),
  };
}
