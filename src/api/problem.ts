/** Error answers in one form: problem+json (RFC 9457), with a code programs switch on and the fields at fault. */

import type { Context } from "hono";
import { z } from "@hono/zod-openapi";
import type { FieldProblem, Outcome } from "../core/network/administration.ts";

/** What can go wrong, with its status and title. */
const KINDS = {
  "invalid-input": [400, "The request is not valid"],
  "unauthenticated": [401, "Authentication is needed"],
  "forbidden": [403, "Not permitted"],
  "not-found": [404, "Not found"],
  "timeout": [408, "The request took too long"],
  "exists": [409, "It exists already"],
  "conflict": [409, "It cannot be done as things are"],
  "too-large": [413, "The request is too large"],
  "unsupported-media-type": [415, "The content type is not supported"],
  "changed": [412, "It has changed meanwhile"],
  "too-many-requests": [429, "Too many requests"],
  "headers-too-large": [431, "The header fields are too large"],
  "internal": [500, "The controller failed"],
  "exhausted": [503, "No address is left"],
  "unavailable": [503, "Not available now"],
} as const;

/** A kind of problem. */
export type ProblemKind = keyof typeof KINDS;

/** What to say of a problem. */
export interface ProblemOptions {
  /** One sentence for a person: what is wrong here and what to do. */
  readonly detail?: string;
  readonly errors?: readonly FieldProblem[];
  readonly headers?: Readonly<Record<string, string>>;
}

/** Schema of error answers. */
export const problemSchema = z.object({
  type: z.string(),
  title: z.string(),
  status: z.int(),
  detail: z.string().optional(),
  errors: z.array(z.object({ field: z.string(), message: z.string() })).optional(),
}).openapi("Problem");

/** Most errors of one input that are listed. */
const MAX_ERRORS = 50;

/** Makes an error answer. */
export function problem(kind: ProblemKind, options: ProblemOptions = {}): Response {
  const [status, title] = KINDS[kind];
  const { detail, errors, headers } = options;
  // RFC 9457 §3.1: type is a URI, status repeats the HTTP status.
  const body = {
    type: `urn:ginnel:problem:${kind}`,
    title,
    status,
    ...(detail === undefined ? {} : { detail }),
    ...(errors === undefined ? {} : { errors: errors.slice(0, MAX_ERRORS) }),
  };
  return new Response(JSON.stringify(body), {
    status,
    // RFC 9457 §3: the media type tells it from an answer.
    headers: { ...headers, "content-type": "application/problem+json" },
  });
}

/** The answer to a refused administration request. */
export function refusal(outcome: Exclude<Outcome<never>, { readonly ok: true }>): Response {
  switch (outcome.fault) {
    case "missing":
      return problem("not-found");
    case "exists":
      return problem("exists", { detail: "Another one has this name: choose a different name" });
    case "changed":
      return problem("changed", { detail: "Read it again and repeat the change on what it is now" });
    case "invalid":
      return problem("invalid-input", { errors: outcome.errors });
    case "exhausted":
      return problem("exhausted", { headers: { "retry-after": "60" } });
    case "conflict":
    case "forbidden":
      return problem(outcome.fault, { detail: outcome.detail });
  }
}

/** Answers an input that its schema refuses; a hook of every router. */
export function rejectInput(
  result:
    & { readonly target: string }
    & (
      | { readonly success: true }
      | { readonly success: false; readonly error: { readonly issues: readonly z.core.$ZodIssue[] } }
    ),
  _context: Context,
): Response | undefined {
  if (result.success) return undefined;
  const prefix = result.target === "json" ? "" : result.target;
  const errors = result.error.issues.flatMap((issue) => fieldProblems(issue, prefix));
  return problem("invalid-input", { errors });
}

function fieldProblems(issue: z.core.$ZodIssue, prefix: string): FieldProblem[] {
  const field = fieldPath(issue.path, prefix);
  if (issue.code !== "unrecognized_keys") return [{ field, message: issue.message }];
  return issue.keys.map((key) => ({
    field: fieldPath([...issue.path, key.slice(0, 128)], prefix),
    message: "is not known here",
  }));
}

function fieldPath(path: readonly PropertyKey[], prefix: string): string {
  return path.reduce<string>((text, part) => {
    if (typeof part === "number") return `${text}[${part}]`;
    return text === "" ? String(part) : `${text}.${String(part)}`;
  }, prefix);
}
