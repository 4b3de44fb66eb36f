/** Egress policies by version: a version never changes, and one at most is active in the network. */

import type {
  NewResource,
  Outcome,
  ResourceInputs,
  WriteContext,
} from "../../core/network/administration.ts";
import type { Resource } from "../../core/network/resources.ts";
import type { StoreTransaction } from "../store.ts";
import type { AdminContext } from "./admin_context.ts";
import { present, refuse, written } from "./decide.ts";

/** A further version; without `version` it gets the next whole number. */
export interface PolicyRevision extends Omit<ResourceInputs["egress-policy"], "version"> {
  readonly version?: string;
  /** If given, the name it has already. */
  readonly name?: string;
}

type Policy = Resource<"egress-policy">;

/** Writes egress policies. */
export class EgressPolicies {
  readonly #context: AdminContext;

  constructor(context: AdminContext) {
    this.#context = context;
  }

  async create(input: NewResource<"egress-policy">, { by }: WriteContext): Promise<Outcome<Policy>> {
    return await this.#context.change(by, async (tx, note) => {
      if ((await versionsOf(input.name, tx)).length > 0) refuse({ fault: "exists" });
      const after = await this.#store(input, tx);
      await note({ action: "create", after });
      return after;
    });
  }

  /** Makes a version that follows another; the other stays as it is. */
  async revise(
    id: string,
    { name: sameName, version, ...rest }: PolicyRevision,
    { by, ifRevision }: WriteContext,
  ): Promise<Outcome<Policy>> {
    return await this.#context.change(by, async (tx, note) => {
      const before = present(await tx.get("egress-policy", id));
      if (ifRevision !== undefined && ifRevision !== before.revision) refuse({ fault: "changed" });
      const name = before.name.slice(0, before.name.lastIndexOf("@"));
      if (sameName !== undefined && sameName !== name) {
        refuse({ fault: "invalid", errors: [{ field: "name", message: `is ${name} in all versions` }] });
      }
      const next = version ?? nextVersion(await versionsOf(name, tx));
      const after = await this.#store({ name, spec: { ...rest, version: next } }, tx);
      await note({ action: "create", after, detail: { follows: before.spec.version } });
      return after;
    });
  }

  async activate(id: string, active: boolean, { by, ifRevision }: WriteContext): Promise<Outcome<Policy>> {
    return await this.#context.change(by, async (tx, note) => {
      const before = present(await tx.get("egress-policy", id));
      if (ifRevision !== undefined && ifRevision !== before.revision) refuse({ fault: "changed" });
      if (before.spec.active === active) return before;
      const set = async (policy: Policy, value: boolean) => {
        const spec = { ...policy.spec, active: value };
        const after = written(await tx.update("egress-policy", policy.id, { spec }));
        const action = value ? "activate" : "deactivate";
        await note({ action, before: withoutDocument(policy), after: withoutDocument(after) });
        return after;
      };
      const others = active
        ? (await tx.list("egress-policy", { limit: 500, where: { active: true } })).items
        : [];
      for (const other of others) await set(other, false);
      return await set(before, active);
    });
  }

  async #store(
    { name, spec }: NewResource<"egress-policy">,
    tx: StoreTransaction,
  ): Promise<Policy> {
    const problems = this.#context.options.validateEgress(spec.document);
    if (problems.length > 0) {
      const errors = problems.map(({ field, message }) => ({
        field: field === "" ? "document" : `document.${field}`,
        message,
      }));
      refuse({ fault: "invalid", errors });
    }
    const stored = { name: `${name}@${spec.version}`, spec: { ...spec, active: false } };
    return written(await tx.create("egress-policy", stored));
  }
}

/** All versions of a policy there are. */
async function versionsOf(name: string, tx: StoreTransaction): Promise<readonly string[]> {
  const versions: string[] = [];
  let cursor: string | null = null;
  do {
    const page: { readonly items: readonly Policy[]; readonly cursor: string | null } = await tx
      .list("egress-policy", { limit: 500, search: `${name}@`, ...(cursor === null ? {} : { cursor }) });
    for (const policy of page.items) {
      if (policy.name === `${name}@${policy.spec.version}`) versions.push(policy.spec.version);
    }
    cursor = page.cursor;
  } while (cursor !== null);
  return versions;
}

function nextVersion(versions: readonly string[]): string {
  return String(Math.max(0, ...versions.filter((version) => /^[0-9]{1,9}$/.test(version)).map(Number)) + 1);
}

/** The document did not change: the log need not hold it again. */
function withoutDocument(policy: Policy): Policy {
  return { ...policy, spec: { ...policy.spec, document: {} } };
}
