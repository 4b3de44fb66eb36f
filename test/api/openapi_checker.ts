/**
 * Holds answers against the served OpenAPI document: the path and method are in it, the status is documented, and the
 * body is of the documented schema. Knows the part of JSON Schema that our documents use, and fails on any other.
 */

import assert from "node:assert/strict";

// deno-lint-ignore no-explicit-any -- documents are read as they come
type Json = any;

/** Words of JSON Schema that say nothing about validity. */
const NOTES = ["description", "format", "default", "title", "examples", "contentMediaType"];

/** Holds answers against one document. */
export class OpenApiChecker {
  /** `METHOD path status` of everything seen. */
  readonly seen = new Set<string>();
  readonly #document: Json;

  constructor(document: Json) {
    this.#document = document;
  }

  /** All operations, as `METHOD path`. */
  get operations(): string[] {
    return Object.entries<Json>(this.#document.paths).flatMap(([path, methods]) =>
      Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`)
    );
  }

  /** Asserts that an answer is one the document promises. */
  check(
    method: string,
    path: string,
    answer: { readonly status: number; readonly json: Json; readonly type: string },
  ) {
    const found = this.#find(method, path);
    if (found === undefined) {
      // What is not documented may only be refused.
      assert.ok(
        [401, 403, 404, 413, 415, 429, 431].includes(answer.status),
        `${method} ${path} is not documented`,
      );
      return;
    }
    const { template, operation } = found;
    const where = `${method} ${template} ${answer.status}`;
    this.seen.add(where);
    const response = operation.responses[answer.status];
    assert.ok(response !== undefined, `${where} is not documented`);
    if (response.content === undefined) return assert.equal(answer.json, undefined, where);
    const content = response.content[answer.type];
    assert.ok(content !== undefined, `${where}: ${answer.type} is not documented`);
    const faults = this.faults(answer.json, content.schema, "body");
    assert.deepEqual(faults, [], `${where}: ${JSON.stringify(answer.json)}`);
  }

  #find(method: string, path: string): { template: string; operation: Json } | undefined {
    const segments = path.split("?")[0]!.split("/");
    for (const [template, methods] of Object.entries<Json>(this.#document.paths)) {
      const parts = template.split("/");
      const isMatch = parts.length === segments.length &&
        parts.every((part, i) => part.startsWith("{") ? segments[i] !== "" : part === segments[i]);
      const operation = isMatch ? methods[method.toLowerCase()] : undefined;
      if (operation !== undefined) return { template, operation };
    }
    return undefined;
  }

  /** Everything about `value` that `schema` does not allow. */
  faults(value: Json, schema: Json, at: string): string[] {
    const found: string[] = [];
    const fail = (reason: string) => void found.push(`${at}: ${reason}`);
    for (const [word, rule] of Object.entries<Json>(schema)) {
      switch (word) {
        case "$ref":
          found.push(...this.faults(value, this.#resolve(rule), at));
          break;
        case "type":
          if (![rule].flat().some((type: string) => isOfType(value, type))) fail(`is not ${rule}`);
          break;
        case "enum":
          if (!rule.includes(value)) fail(`is none of ${rule}`);
          break;
        case "const":
          if (value !== rule) fail(`is not ${rule}`);
          break;
        case "anyOf":
        case "oneOf":
          if (!rule.some((one: Json) => this.faults(value, one, at).length === 0)) {
            fail("fits no alternative");
          }
          break;
        case "allOf":
          for (const one of rule) found.push(...this.faults(value, one, at));
          break;
        case "pattern":
          if (typeof value === "string" && !new RegExp(rule, "u").test(value)) fail(`does not match ${rule}`);
          break;
        case "minimum":
          if (typeof value === "number" && value < rule) fail(`is below ${rule}`);
          break;
        case "maximum":
          if (typeof value === "number" && value > rule) fail(`is above ${rule}`);
          break;
        case "items":
          if (Array.isArray(value)) {
            value.forEach((one, i) => found.push(...this.faults(one, rule, `${at}[${i}]`)));
          }
          break;
        case "required":
          if (isObject(value)) { for (const name of rule) if (!(name in value)) fail(`has no ${name}`); }
          break;
        case "properties":
          if (isObject(value)) {
            for (const [name, one] of Object.entries(rule)) {
              if (name in value) found.push(...this.faults(value[name], one, `${at}.${name}`));
            }
            // Answers show what is documented and nothing else.
            if (schema.additionalProperties === undefined) {
              for (const name of Object.keys(value)) if (!(name in rule)) fail(`${name} is not documented`);
            }
          }
          break;
        case "additionalProperties":
          if (isObject(value)) {
            for (const [name, one] of Object.entries(value)) {
              if (!(name in (schema.properties ?? {}))) {
                if (rule === false) fail(`${name} is not allowed`);
                else found.push(...this.faults(one, rule, `${at}.${name}`));
              }
            }
          }
          break;
        case "propertyNames":
          if (isObject(value)) {
            for (const name of Object.keys(value)) found.push(...this.faults(name, rule, `${at}'s name`));
          }
          break;
        default:
          assert.ok(NOTES.includes(word), `the checker does not know ${word}`);
      }
    }
    return found;
  }

  #resolve(reference: string): Json {
    const parts = reference.replace(/^#\//, "").split("/");
    const target = parts.reduce((node, part) => node?.[part], this.#document);
    assert.ok(target !== undefined, `${reference} leads nowhere`);
    return target;
  }
}

function isObject(value: Json): boolean {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isOfType(value: Json, type: string): boolean {
  switch (type) {
    case "object":
      return isObject(value);
    case "array":
      return Array.isArray(value);
    case "null":
      return value === null;
    case "integer":
      return Number.isInteger(value);
    case "string":
      return typeof value === "string";
    case "number":
      return typeof value === "number";
    case "boolean":
      return typeof value === "boolean";
    default:
      assert.fail(`the checker does not know type ${type}`);
  }
}
