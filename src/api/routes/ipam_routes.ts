/** Tunnel addresses, in the names that zgate's address service uses. */

import { type OpenAPIHono, z } from "@hono/zod-openapi";
import type { AdminPort, AllocationSummary } from "../admin_port.ts";
import { type ApiEnv, createRouter } from "../env.ts";
import { isoTime, pageAnswer } from "../present.ts";
import { problem, refusal } from "../problem.ts";
import { addRoute } from "../route.ts";
import { body, isoTime as isoTimeSchema, json, listQuery, NO_CONTENT, pageOf } from "../schema/common.ts";
import { defined } from "./resource_routes.ts";

/** A SPIFFE ID (its slashes escaped in a path) or a name an external client gives itself. */
// deno-lint-ignore no-control-regex -- that they are refused is the point
const clientId = z.string().regex(/^[^\s\x00-\x1f\x7f]{1,2048}$/u, "1 to 2048 characters without blanks");

const metadata = z.record(z.string().max(128), z.unknown())
  .refine((notes) => JSON.stringify(notes).length <= 8_192, "at most 8,192 characters");

const allocation = z.object({
  client_id: z.string(),
  virtual_ip: z.string().nullable(),
  virtual_ip6: z.string().nullable(),
  allocated_at: isoTimeSchema,
  last_seen_at: isoTimeSchema,
  metadata: z.record(z.string(), z.unknown()),
}).openapi("Allocation");

const stats = z.object({
  ipv4_pool: z.string().nullable(),
  ipv6_pool: z.string().nullable(),
  total: z.number(),
  allocated: z.int(),
  available: z.number(),
  oldest_seen_at: isoTimeSchema.nullable(),
}).openapi("AllocationStats");

const TAGS = ["ipam"];
const REQUEST = { params: z.object({ client_id: clientId }) };

/** Routes below `/ipam`. */
export function ipamRoutes(admin: AdminPort): OpenAPIHono<ApiEnv> {
  const router = createRouter();
  addListRoutes(router, admin);
  const path = "/allocations/{client_id}" as const;
  addRoute(
    router,
    {
      method: "get",
      path,
      tags: TAGS,
      request: REQUEST,
      responses: { 200: json("The addresses", allocation) },
    } as const,
    async (context) => {
      const found = await admin.allocation(context.req.valid("param").client_id);
      return found === undefined ? problem("not-found") : Response.json(show(found));
    },
  );
  addRoute(
    router,
    {
      method: "put",
      path: `${path}/refresh` as const,
      tags: TAGS,
      request: REQUEST,
      responses: { 200: json("Seen now", allocation) },
    } as const,
    async (context) => {
      const refreshed = await admin.refreshAllocation(context.req.valid("param").client_id);
      return refreshed.ok ? Response.json(show(refreshed.value)) : refusal(refreshed);
    },
  );
  addRoute(
    router,
    { method: "delete", path, tags: TAGS, request: REQUEST, responses: { 204: NO_CONTENT } } as const,
    async (context) => {
      const by = context.get("principal");
      const released = await admin.releaseAllocation(context.req.valid("param").client_id, { by });
      return released.ok ? new Response(null, { status: 204 }) : refusal(released);
    },
  );
  return router;
}

function addListRoutes(router: OpenAPIHono<ApiEnv>, admin: AdminPort): void {
  const path = "/allocations";
  addRoute(
    router,
    {
      method: "post",
      path,
      tags: TAGS,
      request: {
        body: body(
          z.strictObject({ client_id: clientId, metadata: metadata.default({}) }).openapi("AllocationInput"),
        ),
      },
      responses: {
        200: json("The addresses it has already", allocation),
        201: json("New addresses", allocation),
      },
    } as const,
    async (context) => {
      const input = context.req.valid("json");
      const by = context.get("principal");
      const allocated = await admin.allocate(input.client_id, input.metadata, { by });
      if (!allocated.ok) return refusal(allocated);
      const { allocation, isNew } = allocated.value;
      return Response.json(show(allocation), { status: isNew ? 201 : 200 });
    },
  );
  addRoute(
    router,
    {
      method: "get",
      path,
      tags: TAGS,
      request: { query: z.strictObject(listQuery) },
      responses: { 200: json("One page", pageOf(allocation)) },
    } as const,
    async (context) => {
      const { limit, ...rest } = context.req.valid("query");
      return pageAnswer(await admin.allocations({ limit, ...defined(rest) }), show);
    },
  );
  addRoute(
    router,
    {
      method: "get",
      path: "/stats",
      tags: TAGS,
      responses: { 200: json("How the pools are used", stats) },
    } as const,
    async () => {
      const { ipv4, ipv6, capacity, allocated, oldestSeenAt } = await admin.poolStats();
      return Response.json({
        ipv4_pool: ipv4,
        ipv6_pool: ipv6,
        total: capacity,
        allocated,
        available: Math.max(0, capacity - allocated),
        oldest_seen_at: oldestSeenAt === null ? null : isoTime(oldestSeenAt),
      });
    },
  );
}

function show({ clientId, virtualIp, virtualIp6, allocatedAt, lastSeenAt, metadata }: AllocationSummary) {
  return {
    client_id: clientId,
    virtual_ip: virtualIp,
    virtual_ip6: virtualIp6,
    allocated_at: isoTime(allocatedAt),
    last_seen_at: isoTime(lastSeenAt),
    metadata,
  };
}
