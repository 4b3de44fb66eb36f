/** What probes ask, without authentication: is the process there, can it do its work. */

import { createRoute, type OpenAPIHono, z } from "@hono/zod-openapi";
import { VERSION } from "../../base/version.ts";
import { type ApiEnv, createRouter } from "../env.ts";
import type { HealthReport } from "../ports.ts";
import { PROBLEMS } from "../schema/common.ts";

const healthSchema = z.object({
  status: z.enum(["ok", "unavailable"]),
  /** Seconds. */
  uptime: z.number(),
  version: z.string(),
}).openapi("Health");

const REFUSALS = { 429: PROBLEMS[429], 431: PROBLEMS[431], 500: PROBLEMS[500] };

/** Routes `/health`, `/ready` and `/.well-known/health-check`. */
export function healthRoutes(health: () => HealthReport | Promise<HealthReport>): OpenAPIHono<ApiEnv> {
  const router = createRouter();
  const read = async () => {
    const { ready, uptime } = await health();
    const status = ready ? "ok" as const : "unavailable" as const;
    return { ready, body: { status, uptime: Math.floor(uptime / 1000), version: VERSION } };
  };
  router.openapi(
    createRoute({
      method: "get",
      path: "/health",
      summary: "The process lives",
      responses: { 200: answer("Always"), ...REFUSALS },
    }),
    async (context) => context.json((await read()).body, 200),
  );
  for (const path of ["/ready", "/.well-known/health-check"] as const) {
    router.openapi(
      createRoute({
        method: "get",
        path,
        summary: "The controller can do its work",
        responses: { 200: answer("It can"), 503: answer("It cannot now"), ...REFUSALS },
      }),
      async (context) => {
        const { ready, body } = await read();
        return context.json(body, ready ? 200 : 503);
      },
    );
  }
  return router;
}

function answer(description: string) {
  return { description, content: { "application/json": { schema: healthSchema } } };
}
