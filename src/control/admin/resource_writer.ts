/** Making, changing and removing resources: each in one transaction with its checks, side effects and audit fact. */

import type {
  NewResource,
  Outcome,
  PlainKind,
  ResourceEdit,
  WriteContext,
} from "../../core/network/administration.ts";
import type { IdentitySpec, Resource, ResourceKind, ResourceSpecs } from "../../core/network/resources.ts";
import { IdentityError } from "../../identity/errors.ts";
import { makeSpiffeId } from "../../identity/spiffe_id.ts";
import type { StoreTransaction } from "../store.ts";
import { requireGrant } from "./access_rules.ts";
import type { AdminContext } from "./admin_context.ts";
import { present, refuse, written } from "./decide.ts";
import { freeIndex } from "./service_index.ts";
import { findProblems, servicesWith } from "./resource_checks.ts";

/** A resource by its kind and id. */
export interface Target<K extends ResourceKind> {
  readonly kind: K;
  readonly id: string;
}

/** Writes resources. */
export class ResourceWriter {
  readonly #context: AdminContext;

  constructor(context: AdminContext) {
    this.#context = context;
  }

  async create<K extends PlainKind>(
    kind: K,
    input: NewResource<K>,
    { by }: WriteContext,
  ): Promise<Outcome<Resource<K>>> {
    return await this.#context.change(by, async (tx, note) => {
      const draft = await this.#complete(kind, input, tx);
      requireGrant(kind, by, [draft.spec]);
      await this.#check(kind, draft, tx);
      const after = written(await tx.create(kind, draft));
      await note({ action: "create", after });
      return after;
    });
  }

  async update<K extends PlainKind>(
    { kind, id }: Target<K>,
    edit: ResourceEdit<K>,
    { by, ifRevision }: WriteContext,
  ): Promise<Outcome<Resource<K>>> {
    const outcome = await this.#context.change(by, async (tx, note) => {
      const before = present(await tx.get(kind, id));
      if (ifRevision !== undefined && ifRevision !== before.revision) refuse({ fault: "changed" });
      refuseFixed(before, edit);
      const draft = { name: edit.name ?? before.name, spec: { ...before.spec, ...edit.spec } };
      requireGrant(kind, by, [before.spec, draft.spec]);
      // Saying again what is so wakes no relay and leaves no entry.
      if (isSame(before, draft)) return { after: before, released: undefined };
      await this.#check(kind, draft, tx);
      const after = written(await tx.update(kind, id, { ...draft, ifRevision: before.revision }));
      const disabled = isIdentity(before) && isIdentity(after) && !before.spec.disabled &&
        after.spec.disabled;
      const detail = disabled ? await this.#endAccess(before, tx) : gainsRole(before, after)
        // Whoever holds a token made before could take the role by it.
        ? { enrolments: await tx.removeEnrolments(id) }
        : {};
      await note({ action: "update", before, after, detail });
      return { after, released: disabled ? after.spec.spiffeId : undefined };
    });
    if (!outcome.ok) return outcome;
    await this.#release(outcome.value.released);
    return { ok: true, value: outcome.value.after };
  }

  async remove<K extends ResourceKind>(
    { kind, id }: Target<K>,
    { by, ifRevision }: WriteContext,
  ): Promise<Outcome<Resource<K>>> {
    const outcome = await this.#context.change(by, async (tx, note) => {
      const before = present(await tx.get(kind, id));
      if (ifRevision !== undefined && ifRevision !== before.revision) refuse({ fault: "changed" });
      requireGrant(kind, by, [before.spec]);
      await refuseInUse(before, tx);
      const detail = isIdentity(before) ? await this.#endAccess(before, tx) : {};
      written(await tx.remove(kind, id));
      await note({ action: "delete", before, detail });
      return before;
    });
    if (outcome.ok && isIdentity(outcome.value)) await this.#release(outcome.value.spec.spiffeId);
    return outcome;
  }

  /** Makes an identity enrol anew: what it holds is worth nothing any more. */
  async reset(id: string, { by, ifRevision }: WriteContext): Promise<Outcome<Resource<"identity">>> {
    const outcome = await this.#context.change(by, async (tx, note) => {
      const before = present(await tx.get("identity", id));
      if (ifRevision !== undefined && ifRevision !== before.revision) refuse({ fault: "changed" });
      requireGrant("identity", by, [before.spec]);
      const detail = await this.#endAccess(before, tx);
      // Written as it is, so that relays hear of a new revision and close what it has open.
      const after = written(await tx.update("identity", id, { spec: before.spec }));
      await note({ action: "reset", before, after, detail });
      return after;
    });
    if (outcome.ok) await this.#release(outcome.value.spec.spiffeId);
    return outcome;
  }

  /** Certificates and enrolments of an identity end; what ended is for the audit log. */
  async #endAccess({ id }: Resource<"identity">, tx: StoreTransaction) {
    const revoked = await tx.revokeCertificates({ identityId: id }, this.#context.options.now());
    const enrolments = await tx.removeEnrolments(id);
    return { revoked, enrolments };
  }

  /** After the commit: an address is free once nobody may use it any more. */
  async #release(spiffeId: string | undefined): Promise<void> {
    if (spiffeId !== undefined) await this.#context.options.store.releaseAddress(spiffeId);
  }

  async #check<K extends ResourceKind>(
    kind: K,
    draft: { readonly name: string; readonly spec: ResourceSpecs[K] },
    tx: StoreTransaction,
  ): Promise<void> {
    const { trustDomain } = this.#context.options;
    const errors = await findProblems(kind, draft, { tx, trustDomain });
    if (errors.length > 0) refuse({ fault: "invalid", errors });
  }

  /** A spec in full, from what an administrator says of it. */
  async #complete<K extends PlainKind>(
    kind: K,
    { name, spec }: NewResource<K>,
    tx: StoreTransaction,
  ): Promise<{ readonly name: string; readonly spec: ResourceSpecs[K] }> {
    if (kind === "service") {
      const index = await freeIndex(name, tx);
      return { name, spec: { ...spec as NewResource<"service">["spec"], index } as ResourceSpecs[K] };
    }
    if (kind !== "identity") return { name, spec: spec as ResourceSpecs[K] };
    const input = spec as NewResource<"identity">["spec"];
    const spiffeId = input.type === "workload"
      ? await foreignId(name, input.spiffeId, tx)
      : this.#ownId(name, input);
    const identity: IdentitySpec = {
      ...input,
      spiffeId,
      derivedAttributes: [],
      origin: input.type === "workload" ? "spiffe" : "enrolment",
      externalId: null,
    };
    return { name, spec: identity as ResourceSpecs[K] };
  }

  #ownId(name: string, { type, spiffeId }: NewResource<"identity">["spec"]): string {
    if (spiffeId !== undefined) {
      refuse({ fault: "invalid", errors: [{ field: "spiffeId", message: "only a workload's is given" }] });
    }
    try {
      return makeSpiffeId({ trustDomain: this.#context.options.trustDomain, kind: type, name }).uri;
    } catch (error) {
      if (!(error instanceof IdentityError)) throw error;
      return refuse({ fault: "invalid", errors: [{ field: "name", message: error.message }] });
    }
  }
}

/** The SPIFFE ID of a workload: of a trust domain that is admitted, and its name is the path. */
async function foreignId(name: string, spiffeId: string | undefined, tx: StoreTransaction): Promise<string> {
  const match = /^spiffe:\/\/([a-z0-9._-]{1,255})\/((?:[A-Za-z0-9._-]{1,255}\/){0,15}[A-Za-z0-9._-]{1,255})$/
    .exec(spiffeId ?? "");
  const fail = (field: string, message: string) => refuse({ fault: "invalid", errors: [{ field, message }] });
  if (match === null || match[2]!.split("/").some((part) => part === "." || part === "..")) {
    return fail("spiffeId", "a workload needs one: write spiffe://DOMAIN/PATH");
  }
  if (name !== match[2]) return fail("name", `a workload's name is the path of its SPIFFE ID: ${match[2]}`);
  if (await tx.find("trust-domain", match[1]!) === undefined) {
    return fail("spiffeId", `the trust domain ${match[1]} is not admitted`);
  }
  return match[0];
}

/** What never changes: certificates and policies rest on it. */
function refuseFixed<K extends PlainKind>(before: Resource<K>, edit: ResourceEdit<K>): void {
  const fixed: readonly string[] = FIXED[before.kind] ?? [];
  const values = { ...edit.spec, ...(edit.name === undefined ? {} : { name: edit.name }) };
  const now = { ...before.spec, name: before.name };
  const errors = fixed.flatMap((field) => {
    const wanted = (values as Record<string, unknown>)[field];
    if (wanted === undefined || wanted === (now as unknown as Record<string, unknown>)[field]) return [];
    return [{ field, message: "never changes: make a new one" }];
  });
  if (errors.length > 0) refuse({ fault: "invalid", errors });
}

const FIXED: Readonly<Partial<Record<ResourceKind, readonly string[]>>> = {
  "identity": ["name", "type", "spiffeId"],
  "config": ["type"],
  "trust-domain": ["name"],
};

async function refuseInUse(resource: Resource, tx: StoreTransaction): Promise<void> {
  if (resource.kind === "config") {
    const users = await servicesWith(resource.id, tx);
    if (users.length > 0) {
      const named = users.slice(0, 5).join(", ");
      refuse({ fault: "conflict", detail: `In use by ${users.length} service(s): ${named}` });
    }
  }
  if (isEgress(resource) && resource.spec.active) {
    refuse({ fault: "conflict", detail: "It is active: deactivate it or activate another version first" });
  }
}

function isIdentity(resource: Resource): resource is Resource<"identity"> {
  return resource.kind === "identity";
}

function gainsRole(before: Resource, after: Resource): boolean {
  return isIdentity(before) && isIdentity(after) && after.spec.adminRole !== null &&
    before.spec.adminRole !== after.spec.adminRole;
}

function isEgress(resource: Resource): resource is Resource<"egress-policy"> {
  return resource.kind === "egress-policy";
}

function isSame(before: Resource, draft: { readonly name: string; readonly spec: object }): boolean {
  return before.name === draft.name && canonical(before.spec) === canonical(draft.spec);
}

/** JSON with members in one order. */
function canonical(value: unknown): string {
  return JSON.stringify(
    value,
    (_key, inner) =>
      typeof inner === "object" && inner !== null && !Array.isArray(inner)
        ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => a < b ? -1 : 1))
        : inner,
  );
}
