/** Reads egress policy files (YAML or JSON) into one document; every mistake is reported as `file:line:column`. */

import { formatIp, type IpAddress } from "../base/ip.ts";
import type { EgressAction, EgressClientEntry, EgressDocument } from "../core/egress/document.ts";
import { ConfigError, type ConfigProblem } from "./errors.ts";
import { parsePolicyText, type PolicyText, readPolicyTexts } from "./policy_text.ts";
import { egressSchema } from "./schema/egress.ts";
import { describeIssues, MAX_PROBLEMS, problemAt } from "./schema_problems.ts";
import type { SourceText } from "./source_text.ts";

/** Reads and joins egress policy files. Throws `ConfigError` with code `ERR_POLICY`, naming every problem in every file. */
export async function loadEgress(paths: readonly string[]): Promise<EgressDocument> {
  const { texts, problems } = await readPolicyTexts(paths);
  return parseEgress(texts, problems);
}

/** Parses and joins egress policy texts; `problems` found before are reported along with those found here. */
export function parseEgress(
  texts: readonly PolicyText[],
  problems: readonly ConfigProblem[] = [],
): EgressDocument {
  const joined = new EgressJoiner(problems);
  for (const text of texts) joined.add(text);
  return joined.finish();
}

/** Where an entry came from, to name both places when it is given twice. */
interface Origin {
  readonly file: string;
  readonly source: SourceText;
  readonly path: readonly PropertyKey[];
}

class EgressJoiner {
  readonly #problems: ConfigProblem[];
  readonly #clients: EgressClientEntry[] = [];
  readonly #origins = new Map<string, Origin>();
  readonly #resolvers = new Map<string, IpAddress>();
  #hasResolvers = false;
  #name = "";
  #defaultAction: { readonly action: EgressAction; readonly origin: Origin } | undefined;

  constructor(problems: readonly ConfigProblem[]) {
    this.#problems = [...problems];
  }

  add(text: PolicyText): void {
    const source = parsePolicyText(text, this.#problems);
    if (source === undefined) return;
    const { file } = text;
    const result = egressSchema.safeParse(source.value);
    if (!result.success) {
      this.#problems.push(...describeIssues(result.error.issues, { file, source, schema: egressSchema }));
      return;
    }
    const { metadata, default_action, resolvers, clients } = result.data;
    if (this.#name === "") this.#name = metadata.name ?? "";
    if (default_action !== undefined) {
      this.#setDefault(default_action, { file, source, path: ["default_action"] });
    }
    for (const address of resolvers ?? []) this.#resolvers.set(formatIp(address), address);
    this.#hasResolvers ||= resolvers !== undefined;
    for (const [client, { rules }] of Object.entries(clients)) {
      this.#addClient({ client, rules }, { file, source, path: ["clients", client] });
    }
  }

  finish(): EgressDocument {
    if (this.#problems.length > 0) throw new ConfigError("ERR_POLICY", this.#problems);
    return {
      name: this.#name,
      defaultAction: this.#defaultAction?.action ?? "drop",
      resolvers: this.#hasResolvers ? [...this.#resolvers.values()] : null,
      clients: this.#clients,
    };
  }

  #addClient(entry: EgressClientEntry, origin: Origin): void {
    const first = this.#origins.get(entry.client);
    if (first !== undefined) return this.#complain(origin, first, "this client is given twice");
    this.#origins.set(entry.client, origin);
    this.#clients.push(entry);
  }

  /** Files may agree on the default or leave it out; whichever came last must not win. */
  #setDefault(action: EgressAction, origin: Origin): void {
    const first = this.#defaultAction;
    if (first === undefined) this.#defaultAction = { action, origin };
    else if (first.action !== action) {
      this.#complain(origin, first.origin, "contradicts another file's default_action");
    }
  }

  #complain(origin: Origin, first: Origin, message: string): void {
    if (this.#problems.length >= MAX_PROBLEMS) return;
    const { line, column } = problemAt(first.path, "", first);
    this.#problems.push(
      problemAt(origin.path, `${message}, first at ${first.file}:${line}:${column}`, origin),
    );
  }
}
