/** Who is there: relays, connectors and sessions. */

import { type OpenAPIHono, z } from "@hono/zod-openapi";
import type { AdminPort, SessionSummary } from "../admin_port.ts";
import { type ApiEnv, createRouter } from "../env.ts";
import { isoTime, pageAnswer } from "../present.ts";
import { refusal } from "../problem.ts";
import { addRoute } from "../route.ts";
import {
  isoTime as isoTimeSchema,
  json,
  listQuery,
  NO_CONTENT,
  pageOf,
  queryFlag,
} from "../schema/common.ts";
import { searchQuery } from "../schema/common.ts";
import { defined } from "./resource_routes.ts";

const seenAt = isoTimeSchema.nullable();

const relay = z.object({
  /** Of its identity. */
  id: z.uuid().nullable(),
  name: z.string(),
  spiffeId: z.string(),
  address: z.string().nullable(),
  disabled: z.boolean(),
  /** What it enforces. */
  revision: z.int().nullable(),
  version: z.string().nullable(),
  sessions: z.int(),
  lastSeenAt: seenAt,
}).openapi("Relay");

const connector = z.object({
  id: z.uuid(),
  name: z.string(),
  spiffeId: z.string(),
  disabled: z.boolean(),
  relays: z.array(z.string()),
  services: z.array(z.string()),
  lastSeenAt: seenAt,
}).openapi("Connector");

const session = z.object({
  id: z.string(),
  relay: z.string(),
  identity: z.string(),
  kind: z.enum(["agent", "connector", "tunnel", "user"]),
  remote: z.string(),
  services: z.array(z.string()),
  openedAt: isoTimeSchema,
  lastSeenAt: isoTimeSchema,
  closedAt: seenAt,
}).openapi("Session");

/** Routes `/relays` and `/connectors`. */
export function presenceRoutes(admin: AdminPort): OpenAPIHono<ApiEnv> {
  const router = createRouter();
  addRoute(
    router,
    {
      method: "get",
      path: "/relays",
      tags: ["relays"],
      request: { query: z.strictObject({}) },
      responses: { 200: json("All relays", pageOf(relay)) },
    } as const,
    async () => {
      const data = (await admin.relays()).map((entry) => ({
        ...entry,
        lastSeenAt: maybeTime(entry.lastSeenAt),
      }));
      return Response.json({ data, meta: { cursor: null, total: data.length } });
    },
  );
  addRoute(
    router,
    {
      method: "get",
      path: "/connectors",
      tags: ["connectors"],
      request: { query: z.strictObject(searchQuery) },
      responses: { 200: json("One page, by name", pageOf(connector)) },
    } as const,
    async (context) => {
      const { limit, ...rest } = context.req.valid("query");
      const page = await admin.connectors({ limit, ...defined(rest) });
      return pageAnswer(page, (entry) => ({ ...entry, lastSeenAt: maybeTime(entry.lastSeenAt) }));
    },
  );
  return router;
}

/** Routes below `/sessions`. */
export function sessionRoutes(admin: AdminPort): OpenAPIHono<ApiEnv> {
  const router = createRouter();
  const tags = ["sessions"];
  addRoute(
    router,
    {
      method: "get",
      path: "/",
      tags,
      request: {
        query: z.strictObject({
          ...listQuery,
          identity: z.string().max(2_048).optional(),
          relay: z.string().max(2_048).optional(),
          open: queryFlag.optional(),
        }),
      },
      responses: { 200: json("One page", pageOf(session)) },
    } as const,
    async (context) => {
      const { limit, ...rest } = context.req.valid("query");
      return pageAnswer(await admin.sessions({ limit, ...defined(rest) }), showSession);
    },
  );
  addRoute(
    router,
    {
      method: "delete",
      path: "/{id}",
      tags,
      request: { params: z.object({ id: z.string().min(1).max(255) }) },
      responses: { 204: NO_CONTENT },
    } as const,
    async (context) => {
      const by = context.get("principal");
      const ended = await admin.endSession(context.req.valid("param").id, { by });
      return ended.ok ? new Response(null, { status: 204 }) : refusal(ended);
    },
  );
  return router;
}

function showSession({ openedAt, lastSeenAt, closedAt, ...rest }: SessionSummary): object {
  return {
    ...rest,
    openedAt: isoTime(openedAt),
    lastSeenAt: isoTime(lastSeenAt),
    closedAt: maybeTime(closedAt),
  };
}

function maybeTime(milliseconds: number | null): string | null {
  return milliseconds === null ? null : isoTime(milliseconds);
}
