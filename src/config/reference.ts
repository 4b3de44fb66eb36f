/**
 * Renders the schemas as the README's config reference, so that the two cannot drift apart. Run as a program it
 * writes the README's block anew: `deno run -A src/config/reference.ts`.
 */

import { z } from "zod";
import { agentSchema } from "./schema/agent.ts";
import { connectorSchema } from "./schema/connector.ts";
import { controllerSchema } from "./schema/controller.ts";
import { egressSchema } from "./schema/egress.ts";
import { policySchema } from "./schema/policy.ts";
import { relaySchema } from "./schema/relay.ts";

const BEGIN = "<!-- config:begin -->";
const END = "<!-- config:end -->";

/** The reference as Markdown: one table for each mode, and for each kind of policy files. */
export function renderReference(): string {
  return [
    "<!-- deno-fmt-ignore-start -->",
    "",
    renderSection("Mode `relay`", relaySchema),
    renderSection("Mode `connector`", connectorSchema),
    renderSection("Mode `agent`", agentSchema),
    renderSection("Mode `controller`", controllerSchema),
    renderSection("Policy files", policySchema),
    renderSection("Egress policy files (`tunnel.policy`)", egressSchema),
    "<!-- deno-fmt-ignore-end -->",
    "",
  ].join("\n");
}

/** Replaces what stands between the two markers of a README; throws `SyntaxError` when they are not there once. */
export function replaceReference(readme: string): string {
  const parts = readme.split(BEGIN);
  const rest = parts[1]?.split(END);
  if (parts.length !== 2 || rest?.length !== 2) {
    throw new SyntaxError(`Cannot write the config reference: expected ${BEGIN} and ${END} once each`);
  }
  return `${parts[0]}${BEGIN}\n\n${renderReference()}\n${END}${rest[1]}`;
}

/** The parts of a JSON Schema that the schemas use. */
interface SchemaNode {
  readonly type?: string;
  readonly type_name?: string;
  readonly description?: string;
  readonly default?: unknown;
  readonly const?: unknown;
  readonly enum?: readonly unknown[];
  readonly anyOf?: readonly SchemaNode[];
  readonly properties?: Readonly<Record<string, SchemaNode>>;
  readonly required?: readonly string[];
  readonly items?: SchemaNode;
  /** Of an object whose keys are names: what each leads to. */
  readonly additionalProperties?: SchemaNode | boolean;
}

function renderSection(title: string, schema: z.ZodType): string {
  const node = z.toJSONSchema(schema, { io: "input" }) as SchemaNode;
  const rows = renderFields(node, "").map((cells) => `| ${cells.join(" | ")} |`);
  return [
    `### ${title}`,
    "",
    "| field | type | default | meaning |",
    "| --- | --- | --- | --- |",
    ...rows,
    "",
  ]
    .join("\n");
}

function renderFields(node: SchemaNode, prefix: string): string[][] {
  return Object.entries(node.properties ?? {}).flatMap(([name, field]) => {
    const path = prefix + name;
    const required = node.required?.includes(name) ?? false;
    const row = [`\`${path}\``, typeOf(field), defaultOf(field, required), meaningOf(field)];
    const inner = field.properties === undefined ? [] : renderFields(field, `${path}.`);
    const items = field.items?.properties === undefined ? [] : renderFields(field.items, `${path}[].`);
    const each = field.additionalProperties;
    const named = typeof each === "object" && each.properties !== undefined
      ? renderFields(each, `${path}.NAME.`)
      : [];
    return [row, ...inner, ...items, ...named];
  });
}

function typeOf(node: SchemaNode): string {
  if (node.type_name !== undefined) return node.type_name;
  if (node.anyOf !== undefined) return node.anyOf.map(typeOf).join(" or ");
  if (node.const !== undefined) return code(node.const);
  if (node.enum !== undefined) return node.enum.map(code).join(", ");
  if (node.type === "array") return `list of ${typeOf(node.items ?? {})}`;
  return node.type ?? "any";
}

function defaultOf(node: SchemaNode, required: boolean): string {
  if (required) return "required";
  if (node.default === undefined) return "none";
  // An object's default is that of its fields, which have their own rows.
  return node.properties === undefined ? code(node.default) : "see below";
}

function meaningOf(node: SchemaNode): string {
  return node.const === undefined ? (node.description ?? "") : "Chooses the mode.";
}

function code(value: unknown): string {
  return `\`${JSON.stringify(value)}\``;
}

if (import.meta.main) {
  const readme = new URL("../../README.md", import.meta.url);
  await Deno.writeTextFile(readme, replaceReference(await Deno.readTextFile(readme)));
}
