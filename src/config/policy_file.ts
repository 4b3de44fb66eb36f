/** Reads policy files (YAML or JSON) into one document; every mistake is reported as `file:line:column`. */

import type { z } from "zod";
import type {
  PolicyDocument,
  PolicyIdentity,
  PolicyService,
  ServicePolicy,
} from "../core/policy/document.ts";
import { ConfigError, type ConfigProblem } from "./errors.ts";
import { parsePolicyText, type PolicyText, readPolicyTexts } from "./policy_text.ts";
import { policyListSchema, policySchema, servicePolicySchema } from "./schema/policy.ts";
import { describeIssues, MAX_PROBLEMS, problemAt } from "./schema_problems.ts";
import type { SourceText } from "./source_text.ts";

/**
 * Reads and joins policy files. A file holds a whole document, a single service policy, or a list of those.
 * Throws `ConfigError` with code `ERR_POLICY`, naming every problem in every file.
 */
export async function loadPolicy(paths: readonly string[]): Promise<PolicyDocument> {
  const { texts, problems } = await readPolicyTexts(paths);
  return parsePolicy(texts, problems);
}

/** Parses and joins policy texts; `problems` found before are reported along with those found here. */
export function parsePolicy(
  texts: readonly PolicyText[],
  problems: readonly ConfigProblem[] = [],
): PolicyDocument {
  const joined = new PolicyJoiner(problems);
  for (const text of texts) joined.add(text);
  return joined.finish();
}

/** Where an entry came from, to name both places when a name is given twice. */
interface Origin {
  readonly file: string;
  readonly source: SourceText;
  readonly path: readonly PropertyKey[];
}

class PolicyJoiner {
  readonly #problems: ConfigProblem[];
  readonly #identities: PolicyIdentity[] = [];
  readonly #services: PolicyService[] = [];
  readonly #policies: ServicePolicy[] = [];
  readonly #seen = new Map<string, Origin>();

  constructor(problems: readonly ConfigProblem[]) {
    this.#problems = [...problems];
  }

  add(text: PolicyText): void {
    const source = parsePolicyText(text, this.#problems);
    if (source !== undefined) this.#addSource(source, text.file);
  }

  finish(): PolicyDocument {
    if (this.#problems.length > 0) throw new ConfigError("ERR_POLICY", this.#problems);
    return { identities: this.#identities, services: this.#services, servicePolicies: this.#policies };
  }

  #addSource(source: SourceText, file: string): void {
    const { value } = source;
    if (Array.isArray(value)) {
      const policies = this.#validate(policyListSchema, { source, file });
      policies?.forEach((policy, index) => this.#addPolicy(policy, { source, file, path: [index] }));
    } else if (isSinglePolicy(value)) {
      const policy = this.#validate(servicePolicySchema, { source, file });
      if (policy !== undefined) this.#addPolicy(policy, { source, file, path: [] });
    } else {
      const document = this.#validate(policySchema, { source, file });
      document?.identities.forEach((identity, index) =>
        this.#addIdentity(identity, { source, file, path: ["identities", index] })
      );
      document?.services.forEach((service, index) => {
        const origin = { source, file, path: ["services", index] };
        this.#addService(service, origin);
      });
      document?.servicePolicies.forEach((policy, index) =>
        this.#addPolicy(policy, { source, file, path: ["servicePolicies", index] })
      );
    }
  }

  #addIdentity(identity: PolicyIdentity, origin: Origin): void {
    const { name, id } = identity;
    const nameIsNew = name === undefined || this.#claim("identity", name, { ...origin, field: "name" });
    const idIsNew = id === undefined || this.#claim("identity", id, { ...origin, field: "id" });
    if (nameIsNew && idIsNew) this.#identities.push(identity);
  }

  #addService(service: PolicyService, origin: Origin): void {
    const { name, index } = service;
    const nameIsNew = this.#claim("service", name, { ...origin, field: "name" });
    const indexIsNew = index === undefined ||
      this.#claim("index", String(index), { ...origin, field: "index" });
    if (nameIsNew && indexIsNew) this.#services.push(service);
  }

  #addPolicy(policy: ServicePolicy, origin: Origin): void {
    if (this.#claim("service policy", policy.name, { ...origin, field: "name" })) this.#policies.push(policy);
  }

  /** Notes a name as used; a second use is a problem. */
  #claim(kind: string, name: string, origin: Origin & { readonly field: string }): boolean {
    const key = `${kind} ${name}`;
    const first = this.#seen.get(key);
    const path = [...origin.path, origin.field];
    if (first === undefined) {
      this.#seen.set(key, { ...origin, path });
      return true;
    }
    if (this.#problems.length >= MAX_PROBLEMS) return false;
    const { line, column } = problemAt(first.path, "", first);
    const message = `this ${kind} is given twice, first at ${first.file}:${line}:${column}`;
    this.#problems.push(problemAt(path, message, origin));
    return false;
  }

  #validate<S extends z.ZodType>(
    schema: S,
    { source, file }: { readonly source: SourceText; readonly file: string },
  ): z.output<S> | undefined {
    const result = schema.safeParse(source.value);
    if (result.success) return result.data;
    this.#problems.push(...describeIssues(result.error.issues, { file, source, schema }));
    return undefined;
  }
}

/** Told by the fields that only a service policy has, so that a slip in one still gets the right advice. */
function isSinglePolicy(value: unknown): boolean {
  return typeof value === "object" && value !== null &&
    ["type", "identityRoles", "serviceRoles", "semantic"].some((field) => Object.hasOwn(value, field));
}
