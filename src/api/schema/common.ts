/** Building blocks of inputs and answers: ids, pages, times, and the problems every route may answer with. */

import { z } from "@hono/zod-openapi";
import { problemSchema } from "../problem.ts";

/** A resource's id in a path. */
export const idParams = z.object({ id: z.uuid().openapi({ param: { name: "id", in: "path" } }) });

/** A time as text. */
export const isoTime = z.iso.datetime();

/** Names of resources that have no stricter form of their own. */
export const resourceName = z.string().regex(
  // deno-lint-ignore no-control-regex -- that they are refused is the point
  /^[^\s\x00-\x1f\x7f](?:[^\x00-\x1f\x7f]{0,253}[^\s\x00-\x1f\x7f])?$/u,
  "1 to 255 characters without control characters or outer blanks",
);

/** Operators' notes. */
export const tags = z.record(
  z.string().min(1).max(128),
  z.union([z.string().max(1_024), z.number(), z.boolean(), z.null()]),
).refine((notes) => Object.keys(notes).length <= 64, "at most 64 tags");

/** Role attributes; their form is judged with the policy they serve. */
export const roleAttributes = z.array(z.string().min(1).max(128)).max(256);

/** Query fields that every list understands. */
export const listQuery = {
  limit: z.coerce.number().int().min(1).max(500).default(100),
  cursor: z.string().min(1).max(8_192).optional(),
};

/** Query fields of lists of resources. */
export const searchQuery = {
  ...listQuery,
  search: z.string().min(1).max(255).optional(),
  name: z.string().min(1).max(255).optional(),
};

/** A true or false in a query. */
export const queryFlag = z.enum(["true", "false"]).transform((word) => word === "true");

/** A page of `entry`. */
export function pageOf<T extends z.ZodType>(entry: T) {
  return z.object({
    data: z.array(entry),
    meta: z.object({ cursor: z.string().nullable(), total: z.int().nullable() }),
  });
}

/** What every stored resource shows. */
export const resourceFields = {
  id: z.uuid(),
  name: z.string(),
  revision: z.int(),
  createdAt: isoTime,
  updatedAt: isoTime,
};

/** An answer with a JSON body. */
export function json<T extends z.ZodType>(description: string, schema: T) {
  return { description, content: { "application/json": { schema } } };
}

/** A JSON body that must be there. */
export function body<T extends z.ZodType>(schema: T) {
  return { required: true, content: { "application/json": { schema } } };
}

/** An answer without a body. */
export const NO_CONTENT = { description: "Done" };

/**
 * What every route below `/api/v1` may answer beside its own. Optional fields of schemas are `optional()`: the document's
 * generator takes `exactOptional()` for required.
 */
export const PROBLEMS = {
  400: failure("The request is not valid"),
  401: failure("Who asks is not known"),
  403: failure("Whoever asks may not"),
  404: failure("There is no such thing"),
  408: failure("The body did not come in time"),
  409: failure("It collides with what is there"),
  412: failure("It has changed since the revision in If-Match"),
  413: failure("The body is too large"),
  415: failure("The body is not plain JSON"),
  429: failure("Too many requests: wait as Retry-After says"),
  431: failure("URL or header fields are too large"),
  500: failure("The controller failed"),
  503: failure("Not possible now"),
};

function failure(description: string) {
  return { description, content: { "application/problem+json": { schema: problemSchema } } };
}
