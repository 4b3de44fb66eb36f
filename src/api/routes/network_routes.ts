/** The network as a whole: its audit log, its CAs, and who the caller is. */

import { type OpenAPIHono, z } from "@hono/zod-openapi";
import { API_COLLECTIONS } from "../../core/network/access.ts";
import { AUDIT_EVENTS, type AuditEntry } from "../../core/network/audit_entry.ts";
import { VERSION } from "../../base/version.ts";
import type { AdminPort } from "../admin_port.ts";
import { type ApiEnv, createRouter } from "../env.ts";
import { seesAccess } from "../present.ts";
import { addRoute } from "../route.ts";
import { isoTime, json, pageOf } from "../schema/common.ts";
import { defined } from "./resource_routes.ts";

/** As the log's hashes cover it: times are milliseconds since the epoch. */
const auditEntry = z.object({
  seq: z.int(),
  time: z.number(),
  event: z.enum(AUDIT_EVENTS),
  who: z.string(),
  target: z.string(),
  outcome: z.string(),
  detail: z.record(z.string(), z.unknown()),
  source: z.string(),
  hash: z.string(),
  /** There and true where `detail` is left out, since it may tell what the caller may not see. */
  redacted: z.boolean().optional(),
}).openapi("AuditEntry");

const network = z.object({
  trustDomain: z.string(),
  revision: z.int(),
  /** CA certificates, PEM, the issuing one first. */
  roots: z.array(z.string()),
}).openapi("Network");

const principal = z.object({
  who: z.string(),
  role: z.enum(["viewer", "operator", "admin", "relay"]),
  scopes: z.array(z.enum(API_COLLECTIONS)),
}).openapi("Principal");

const auditQuery = z.strictObject({
  limit: z.coerce.number().int().min(1).max(500).default(100),
  /** Entries below this number: the page before's `meta.cursor`. */
  cursor: z.string().regex(/^[0-9]{1,15}$/).optional(),
  since: isoTime.optional(),
  until: isoTime.optional(),
  /** Who acted. */
  identity: z.string().max(4_096).optional(),
  /** Service, or `kind/name` of the resource. */
  service: z.string().max(4_096).optional(),
  outcome: z.string().max(255).optional(),
  event: z.enum(AUDIT_EVENTS).optional(),
});

/** Routes `/audit`, `/network`, `/whoami` and `/version`. */
export function networkRoutes(admin: AdminPort): OpenAPIHono<ApiEnv> {
  const router = createRouter();
  addRoute(
    router,
    {
      method: "get",
      path: "/audit",
      tags: ["audit"],
      request: { query: auditQuery },
      responses: { 200: json("Newest first", pageOf(auditEntry)) },
    } as const,
    async (context) => {
      const { limit, cursor, since, until, identity, service, outcome, event } = context.req.valid("query");
      const entries = await admin.audit({
        limit,
        ...defined({
          before: cursor === undefined ? undefined : Number(cursor),
          from: since === undefined ? undefined : Date.parse(since),
          to: until === undefined ? undefined : Date.parse(until),
          who: identity,
          target: service,
          outcome,
          event,
        }),
      });
      const full = seesAccess(context.get("principal"));
      const last = entries.length < limit ? undefined : entries.at(-1)?.seq;
      return Response.json({
        data: full ? entries : entries.map(redact),
        meta: { cursor: last === undefined || last <= 1 ? null : String(last), total: null },
      });
    },
  );
  addRoute(
    router,
    {
      method: "get",
      path: "/network",
      tags: ["network"],
      responses: { 200: json("Trust bundle and revision", network) },
    } as const,
    async () => {
      const { trustDomain, revision, roots } = await admin.network();
      return Response.json({ trustDomain, revision, roots });
    },
  );
  addRoute(
    router,
    {
      method: "get",
      path: "/whoami",
      responses: { 200: json("Who the token stands for", principal) },
    } as const,
    (context) => {
      const { who, role, scopes } = context.get("principal");
      return Promise.resolve(Response.json({ who, role, scopes }));
    },
  );
  const version = z.object({ name: z.string(), version: z.string() }).openapi("Version");
  addRoute(
    router,
    { method: "get", path: "/version", responses: { 200: json("Of the controller", version) } } as const,
    () => Promise.resolve(Response.json({ name: "ginnel", version: VERSION })),
  );
  return router;
}

/** Changes and logins name roles and logins, which only administrators see. */
function redact(entry: AuditEntry): AuditEntry & { readonly redacted?: true } {
  if (entry.event !== "admin" && entry.event !== "login") return entry;
  return { ...entry, detail: {}, redacted: true };
}
