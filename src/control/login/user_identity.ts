/**
 * The identity behind a login: found by issuer and subject alone, made when it is not there. Names are for people and give
 * nobody anything: one that is taken is left to whoever has it.
 */

import { createHash } from "node:crypto";
import type { AuthProviderSpec, IdentitySpec, Resource } from "../../core/network/resources.ts";
import { decidesRoles, type MappedClaims } from "./map_claims.ts";
import { makeSpiffeId } from "../../identity/spiffe_id.ts";
import type { StoreTransaction } from "../store.ts";

/** Whose login, and where. */
export interface UserLogin {
  readonly mapped: MappedClaims;
  readonly provider: AuthProviderSpec;
  readonly trustDomain: string;
  /** Milliseconds since the epoch. */
  readonly now: number;
}

/** The identity of a login; undefined when every name for it is taken, or two claim to be it. */
export interface UserIdentity {
  readonly identity: Resource<"identity">;
  readonly created: boolean;
}

const HOUR = 60 * 60_000;

/** Characters of the hash that tell users of one name apart: first few, then enough for any number of users. */
const SUFFIX_LENGTHS = [6, 12];

/** Finds the identity of a login and brings it up to date, or makes it. A disabled one is returned as it is. */
export async function upsertUser(
  tx: StoreTransaction,
  login: UserLogin,
): Promise<UserIdentity | "ambiguous" | "taken"> {
  const { externalId } = login.mapped;
  let found = await findUser(tx, externalId);
  if (found === undefined) {
    // Two first logins of one user at once: the second waits here until the first is committed, then finds it.
    await tx.once(`oidc-user:${hashOf(externalId)}`, login.now + HOUR);
    found = await findUser(tx, externalId);
  }
  if (found === undefined) return await createUser(tx, login);
  if (found === "ambiguous" || found.spec.disabled) {
    return found === "ambiguous" ? found : { identity: found, created: false };
  }
  return await updateUser(tx, found, login);
}

/** The user of this external id, of the identities that a store or a transaction has. */
export async function findUser(
  store: Pick<StoreTransaction, "list">,
  externalId: string,
): Promise<Resource<"identity"> | "ambiguous" | undefined> {
  const { items } = await store.list("identity", { limit: 2, where: { externalId, type: "user" } });
  return items.length > 1 ? "ambiguous" : items[0];
}

async function createUser(tx: StoreTransaction, login: UserLogin): Promise<UserIdentity | "taken"> {
  const { mapped, trustDomain } = login;
  const hash = hashOf(mapped.externalId);
  const names = [mapped.name, ...SUFFIX_LENGTHS.map((length) => `${mapped.name}-${hash.slice(0, length)}`)];
  for (const name of names) {
    const spiffeId = makeSpiffeId({ trustDomain, kind: "user", name }).uri;
    if (await tx.find("identity", spiffeId) !== undefined) continue;
    // For good: what policies say of a name must not come to mean somebody else when its identity is deleted.
    if (await tx.initSetting(`login-name.${name}`, hash) !== hash) continue;
    const spec: IdentitySpec = {
      type: "user",
      spiffeId,
      roleAttributes: [],
      derivedAttributes: mapped.roleAttributes,
      disabled: false,
      adminRole: mapped.adminRole,
      origin: "oidc",
      externalId: mapped.externalId,
      address: null,
      tags: {},
    };
    const written = await tx.create("identity", { name, spec });
    if (written.ok) return { identity: written.value, created: true };
  }
  return "taken";
}

async function updateUser(
  tx: StoreTransaction,
  identity: Resource<"identity">,
  { mapped, provider }: UserLogin,
): Promise<UserIdentity | "taken"> {
  const { spec } = identity;
  const adminRole = decidesRoles(provider) ? mapped.adminRole : spec.adminRole;
  const isSame = adminRole === spec.adminRole &&
    JSON.stringify(spec.derivedAttributes) === JSON.stringify(mapped.roleAttributes);
  // A login that changes nothing makes no revision: thousands log in each morning.
  if (isSame) return { identity, created: false };
  const written = await tx.update("identity", identity.id, {
    spec: { ...spec, adminRole, derivedAttributes: mapped.roleAttributes },
  });
  return written.ok ? { identity: written.value, created: false } : "taken";
}

function hashOf(text: string): string {
  return createHash("sha256").update(text).digest("hex");
}
