/** Reads a permitted request's JSON once and refuses shapes that would hurt further in: great depth, `__proto__`. */

import type { Context, Next } from "hono";
import type { ApiEnv } from "./env.ts";
import { problem } from "./problem.ts";

/** Deepest nesting of lists and objects. */
const MAX_DEPTH = 32;

/** Parses the body, if there is one, before the handler's schema does. */
export async function readJsonBody(context: Context<ApiEnv>, next: Next): Promise<Response | void> {
  if (context.req.raw.body === null) return await next();
  let value: unknown;
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(await context.req.arrayBuffer());
    value = text === "" ? null : JSON.parse(text);
  } catch (error) {
    if (error instanceof SyntaxError || error instanceof TypeError) {
      return problem("invalid-input", { detail: "The body is not JSON in UTF-8" });
    }
    throw error;
  }
  const fault = shapeFault(value);
  return fault === undefined ? await next() : problem("invalid-input", { detail: fault });
}

/** Walks without recursion: depth is the caller's to choose. */
function shapeFault(value: unknown): string | undefined {
  let level: unknown[] = [value];
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > MAX_DEPTH) return `The body is nested deeper than ${MAX_DEPTH} levels`;
    const next: unknown[] = [];
    for (const entry of level) {
      if (typeof entry !== "object" || entry === null) continue;
      if (Object.hasOwn(entry, "__proto__")) return "The body has a member __proto__";
      for (const inner of Object.values(entry)) next.push(inner);
    }
    level = next;
  }
  return undefined;
}
