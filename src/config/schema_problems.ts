/** Turns what a zod schema refuses into problems that name file, place, field and value in plain words. */

import { z } from "zod";
import type { ConfigProblem } from "./errors.ts";
import { closest } from "./closest.ts";
import { locateKey, locateValue, placeOf, type SourceText } from "./source_text.ts";

/** What the issues are about. */
export interface ProblemContext {
  readonly file: string;
  readonly source: SourceText;
  /** For the fields that an unknown one may have been meant as. */
  readonly schema: z.ZodType;
}

/** How many problems of one file are described: finding a place reads the text up to there, and nobody reads more. */
export const MAX_PROBLEMS = 50;

/** Describes the issues, in the order of the file. */
export function describeIssues(
  issues: readonly z.core.$ZodIssue[],
  context: ProblemContext,
): ConfigProblem[] {
  const problems = issues.slice(0, MAX_PROBLEMS).flatMap((issue) =>
    issue.code === "unrecognized_keys"
      ? issue.keys.slice(0, MAX_PROBLEMS).map((key) => describeUnknownField([...issue.path, key], context))
      : [describeIssue(issue, context)]
  ).sort((a, b) => a.line! - b.line! || a.column! - b.column!);
  const left = issues.length - MAX_PROBLEMS;
  if (left > 0) problems.push({ file: context.file, field: "", message: `and ${left} more problems` });
  return problems;
}

/** Builds a problem about the value at `path` of a source. */
export function problemAt(
  path: readonly PropertyKey[],
  message: string,
  { file, source }: Pick<ProblemContext, "file" | "source">,
): ConfigProblem {
  const value = valueAt(source.value, path);
  return {
    file,
    ...placeOf(source.text, locateValue(source.root, path)),
    field: formatPath(path),
    ...(value === undefined || path.length === 0 ? {} : { value: printValue(value, path) }),
    message,
  };
}

/** Writes a path as `services[0].upstream`. */
function formatPath(path: readonly PropertyKey[]): string {
  return path.map((key, index) => {
    if (typeof key === "number") return `[${key}]`;
    const name = /^[A-Za-z_$][\w$-]*$/.test(String(key))
      ? String(key)
      : JSON.stringify(String(key).slice(0, 60));
    return index === 0 ? name : `.${name}`;
  }).join("");
}

function describeUnknownField(path: readonly PropertyKey[], context: ProblemContext): ConfigProblem {
  const known = fieldsAt(context.schema, path.slice(0, -1));
  const meant = closest(String(path.at(-1)), known);
  const help = meant === undefined ? `known here: ${known.join(", ")}` : `did you mean ${meant}?`;
  const value = valueAt(context.source.value, path);
  return {
    file: context.file,
    ...placeOf(context.source.text, locateKey(context.source.root, path)),
    field: formatPath(path),
    ...(value === undefined ? {} : { value: printValue(value, path) }),
    message: `unknown field; ${help}`,
  };
}

function describeIssue(issue: z.core.$ZodIssue, context: ProblemContext): ConfigProblem {
  return problemAt(issue.path, phrase(issue, valueAt(context.source.value, issue.path)), context);
}

function phrase(issue: z.core.$ZodIssue, value: unknown): string {
  if (value === undefined && issue.code !== "custom") return "is missing";
  switch (issue.code) {
    case "invalid_type":
      if (!issue.message.startsWith("Invalid input")) return issue.message;
      if (issue.expected === "int") return "expected a whole number";
      return `expected ${withArticle(issue.expected)}, found ${typeName(value)}`;
    case "invalid_value": {
      const choices = issue.values.map(String);
      const meant = typeof value === "string" ? closest(value, choices) : undefined;
      return `expected ${listChoices(choices)}${meant === undefined ? "" : `; did you mean ${meant}?`}`;
    }
    case "too_small":
    case "too_big":
      return sizePhrase(issue);
    default:
      return issue.message;
  }
}

function sizePhrase(issue: z.core.$ZodIssueTooSmall | z.core.$ZodIssueTooBig): string {
  if (!/^Too (?:small|big)/.test(issue.message)) return issue.message;
  const least = issue.code === "too_small";
  const bound = least ? issue.minimum : issue.maximum;
  if (issue.origin === "string") {
    return bound === 1 ? "must not be empty" : `must have at ${least ? "least" : "most"} ${bound} characters`;
  }
  if (issue.origin === "array") return `must have at ${least ? "least" : "most"} ${bound} entries`;
  return `must be at ${least ? "least" : "most"} ${bound}`;
}

/** Writes `a`, `a or b`, `a, b or c`. */
export function listChoices(choices: readonly string[]): string {
  return [choices.slice(0, -1).join(", "), ...choices.slice(-1)].filter((part) => part !== "").join(" or ");
}

/** A value short enough for one line. Containers are not shown, nor anything that looks like a secret. */
function printValue(value: unknown, path: readonly PropertyKey[]): string {
  if (Array.isArray(value)) return "[…]";
  if (typeof value === "object" && value !== null) return "{…}";
  if (typeof value !== "string") return String(value);
  if (SECRET_FIELD.test(String(path.at(-1))) || SECRET_VALUE.test(value)) return "(not shown)";
  return JSON.stringify(value.length > MAX_PRINTED ? `${value.slice(0, MAX_PRINTED)}…` : value);
}

const MAX_PRINTED = 80;
const SECRET_FIELD = /pass|secret|token|credential|private|api_?key|jwt/i;
const SECRET_VALUE = /-----BEGIN|^eyJ/;

function valueAt(value: unknown, path: readonly PropertyKey[]): unknown {
  for (const key of path) {
    if (typeof value !== "object" || value === null || !Object.hasOwn(value, key)) return undefined;
    value = (value as Record<PropertyKey, unknown>)[key];
  }
  return value;
}

/** The parts of a JSON Schema that lead to field names. */
interface SchemaNode {
  readonly properties?: Readonly<Record<string, SchemaNode>>;
  readonly additionalProperties?: SchemaNode | false;
  readonly items?: SchemaNode;
}

/** Names of the fields a schema knows at a path. */
function fieldsAt(schema: z.ZodType, path: readonly PropertyKey[]): string[] {
  let node: SchemaNode | undefined = z.toJSONSchema(schema, { io: "input" }) as SchemaNode;
  for (const key of path) {
    node = typeof key === "number"
      ? node?.items
      : node?.properties?.[String(key)] ?? (node?.additionalProperties || undefined);
  }
  return Object.keys(node?.properties ?? {});
}

function typeName(value: unknown): string {
  if (value === null) return "null";
  return withArticle(Array.isArray(value) ? "array" : typeof value);
}

function withArticle(type: string): string {
  const plain = { array: "list", boolean: "true or false", int: "whole number" }[type] ?? type;
  if (plain === "true or false") return plain;
  return `${/^[aeiou]/.test(plain) ? "an" : "a"} ${plain}`;
}
