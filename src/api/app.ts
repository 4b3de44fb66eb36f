/**
 * The controller's HTTP API: one application for administrators, nodes and probes. Bounds of size and rate come first,
 * then who is asking, then what is asked.
 */

import type { Context, Next } from "hono";
import { HTTPException } from "hono/http-exception";
import { callerKey } from "../base/caller_key.ts";
import { errorCode, errorMessage } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import { VERSION } from "../base/version.ts";
import { adminGate } from "./admin_gate.ts";
import { adminRoutes } from "./admin_routes.ts";
import { type ApiEnv, createRouter } from "./env.ts";
import { BodyFault, type BodyLimits, bodyProblem, guardBody } from "./guard_body.ts";
import { healthRoutes } from "./routes/health.ts";
import type { ApiLimits, ApiPorts } from "./ports.ts";
import { problem, type ProblemKind } from "./problem.ts";
import { RateLimiter } from "./rate_limit.ts";
import { readJsonBody } from "./read_json_body.ts";

/** Where a request came from, as `Deno.serve` says. */
export interface ConnectionInfo {
  readonly remoteAddr: { readonly transport: string; readonly hostname?: string };
}

/** The running API. */
export interface Api {
  fetch(request: Request, info: ConnectionInfo): Promise<Response>;
}

const ADMIN = "/api/v1";
const DEFAULT_BODY = 64 * 1024;
/** Egress policies list many rules. */
const POLICY_BODY = 4 * 1024 * 1024;
const MAX_HEADER_BYTES = 16 * 1024;
const MAX_URL_LENGTH = 8 * 1024;

/** A refused token costs as much as this many requests. */
const REFUSAL_COST = 10;

const DEFAULT_LIMITS: ApiLimits = {
  admin: { perSecond: 50, burst: 300 },
  node: { perSecond: 500, burst: 2_000 },
  strict: { perSecond: 5, burst: 60 },
  principal: { perSecond: 50, burst: 300 },
  bodyTimeoutMs: 10_000,
};

/** Makes the API of one controller. */
export function createApi(ports: ApiPorts): Api {
  const limits = { ...DEFAULT_LIMITS, ...ports.limits };
  const limiter = (rate: "admin" | "node" | "strict" | "principal") =>
    new RateLimiter({ ...limits[rate], now: ports.now });
  const byAddress = { admin: limiter("admin"), node: limiter("node"), strict: limiter("strict") };
  const { bodyLimits, rateOf } = layOut(ports, limits);

  const app = createRouter();
  app.use(async (context, next) => {
    context.set("remote", context.env.remote);
    context.set("logger", ports.logger);
    context.set("verifyProof", ports.verifyProof.bind(ports));
    return await next();
  });
  app.use(secureAnswers, boundHeaders);
  app.use(async (context, next) => {
    const wait = byAddress[rateOf(context.req.path)].take(callerKey(context.get("remote")));
    if (wait > 0) return problem("too-many-requests", { headers: { "retry-after": String(wait) } });
    return await next();
  });
  app.use(guardBody(bodyLimits));
  app.onError((error, context) => answerError(error, context.get("logger")));
  app.notFound(() => problem("not-found"));

  app.route("/", healthRoutes(ports.health));
  for (const { path, router } of ports.nodeRouters) app.route(path, router);
  const document = () =>
    app.getOpenAPI31Document({
      openapi: "3.1.0",
      info: { title: "Ginnel controller", version: VERSION, license: { name: "MIT" } },
      servers: [{ url: "/" }],
    });
  let served: string | undefined;
  const serveDocument = () =>
    new Response(served ??= JSON.stringify(document()), { headers: { "content-type": "application/json" } });
  app.get("/openapi.json", serveDocument);
  app.get(`${ADMIN}/openapi.json`, serveDocument);

  app.openAPIRegistry.registerComponent("securitySchemes", "bearer", {
    type: "http",
    scheme: "bearer",
    description: "An API token, a proof by an identity with a role, or an OpenID token.",
  });
  app.use(
    `${ADMIN}/*`,
    adminGate({
      prefix: ADMIN,
      authenticate: ports.authenticate.bind(ports),
      noteDenied: ports.admin.noteDenied.bind(ports.admin),
      byPrincipal: limiter("principal"),
      onRefused: (remote) => byAddress.admin.charge(callerKey(remote), REFUSAL_COST),
    }),
    readJsonBody,
  );
  app.route(ADMIN, adminRoutes(ports.admin));

  return {
    fetch: async (request, { remoteAddr }) =>
      await app.fetch(request, { remote: remoteAddr.hostname ?? remoteAddr.transport }),
  };
}

/** Where each path's router, bounds and rate are. */
function layOut(ports: ApiPorts, { bodyTimeoutMs: timeoutMs }: ApiLimits) {
  const mounts = ports.nodeRouters;
  const mountOf = (path: string) => mounts.find((mount) => isBelow(path, mount.path));
  return {
    bodyLimits: (path: string): BodyLimits => {
      if (isBelow(path, `${ADMIN}/policies`)) return { maxBytes: POLICY_BODY, timeoutMs };
      return { maxBytes: mountOf(path)?.maxBody ?? DEFAULT_BODY, timeoutMs };
    },
    rateOf: (path: string): "admin" | "node" | "strict" =>
      isBelow(path, ADMIN) ? "admin" : mountOf(path)?.rate ?? "node",
  };
}

function isBelow(path: string, folder: string): boolean {
  return path === folder || path.startsWith(`${folder}/`);
}

async function secureAnswers(context: Context<ApiEnv>, next: Next): Promise<void> {
  await next();
  const { headers } = context.res;
  headers.set("x-content-type-options", "nosniff");
  headers.set("content-security-policy", "default-src 'none'; frame-ancestors 'none'");
  headers.set("referrer-policy", "no-referrer");
  headers.set("strict-transport-security", "max-age=31536000");
  if (!headers.has("cache-control")) headers.set("cache-control", "no-store");
}

async function boundHeaders(context: Context<ApiEnv>, next: Next): Promise<Response | void> {
  const { raw } = context.req;
  let bytes = raw.url.length > MAX_URL_LENGTH ? Infinity : 0;
  for (const [name, value] of raw.headers) bytes += name.length + value.length;
  return bytes > MAX_HEADER_BYTES ? problem("headers-too-large") : await next();
}

/** Answers what a handler threw; what went wrong inside is for the log alone. */
function answerError(error: unknown, logger: Logger): Response {
  if (error instanceof BodyFault) return bodyProblem(error);
  if (error instanceof HTTPException) {
    const kind = HTTP_FAULTS[error.status] ?? "internal";
    if (kind !== "internal") return problem(kind, { detail: error.message });
  }
  // The store's cursors are opaque here; one it cannot read is the caller's doing.
  if (errorCode(error) === "ERR_CURSOR") return problem("invalid-input", { detail: errorMessage(error) });
  if (AWAY.has(errorCode(error))) {
    logger.warn("api_without_database", { code: errorCode(error), message: errorMessage(error) });
    const detail = "The database does not answer: what was asked for may have been done or not";
    return problem("unavailable", { detail, headers: { "retry-after": "2" } });
  }
  logger.error("api_request_failed", { code: errorCode(error), message: errorMessage(error) });
  return problem("internal");
}

/** What the store says while its database is away. */
const AWAY: ReadonlySet<string> = new Set(["ERR_DATABASE_LOST", "ERR_DATABASE_AWAY"]);

const HTTP_FAULTS: Readonly<Record<number, ProblemKind>> = {
  400: "invalid-input",
  413: "too-large",
  415: "unsupported-media-type",
};
