/** Turns stored resources into answers: only what the caller may see, times as text, the revision as ETag. */

import type { Principal } from "../core/network/access.ts";
import { DEFAULT_IDLE_TIMEOUT } from "../core/policy/document.ts";
import type { Resource, ResourceKind, ResourceSpecs } from "../core/network/resources.ts";
import type { Page } from "../core/network/listing.ts";

/** What each kind shows beside its name, id, revision and times. */
const SPECS: { readonly [K in ResourceKind]: (spec: ResourceSpecs[K], to: Principal) => object } = {
  "identity": ({ adminRole, externalId, ...spec }, to) => ({
    ...pick(spec, [
      "type",
      "spiffeId",
      "roleAttributes",
      "derivedAttributes",
      "disabled",
      "origin",
      "address",
      "tags",
    ]),
    ...(seesAccess(to) ? { adminRole, externalId } : {}),
  }),
  "service": ({ idleTimeout = DEFAULT_IDLE_TIMEOUT, ...spec }) => ({
    ...pick(spec, ["configs", "encryptionRequired", "roleAttributes", "tags"]),
    idleTimeout,
  }),
  "config": (spec) => pick(spec, ["type", "data", "tags"]),
  "service-policy": (spec) => pick(spec, ["type", "semantic", "identityRoles", "serviceRoles", "tags"]),
  "egress-policy": (spec) => pick(spec, ["version", "description", "document", "active"]),
  "trust-domain": (spec) => pick(spec, ["roots", "rules", "disabled"]),
  "auth-provider": (spec) =>
    pick(spec, ["issuer", "clientId", "scopes", "nameClaim", "rules", "requireMatch", "disabled"]),
  "api-token": ({ expiresAt, ...spec }) => ({
    ...pick(spec, ["role", "scopes", "bootstrap"]),
    expiresAt: expiresAt === null ? null : isoTime(expiresAt),
  }),
};

/** Whether a caller sees who has access to the API and which login an identity belongs to. */
export function seesAccess({ role }: Principal): boolean {
  return role === "admin";
}

/** A resource as JSON. */
export function present<K extends ResourceKind>(resource: Resource<K>, to: Principal): object {
  const { id, name, revision, createdAt, updatedAt, kind, spec } = resource;
  return {
    id,
    name: kind === "egress-policy" ? policyName(name) : name,
    ...SPECS[kind](spec, to),
    revision,
    createdAt: isoTime(createdAt),
    updatedAt: isoTime(updatedAt),
  };
}

/** An answer that is one resource, with its revision as ETag. */
export function resourceAnswer<K extends ResourceKind>(
  resource: Resource<K>,
  { to, more = {}, status = 200, headers = {} }: {
    readonly to: Principal;
    /** Fields that do not stand in the resource itself. */
    readonly more?: object | undefined;
    readonly status?: number;
    readonly headers?: Readonly<Record<string, string>>;
  },
): Response {
  return Response.json({ ...present(resource, to), ...more }, {
    status,
    headers: { ...headers, etag: `"${resource.revision}"` },
  });
}

/** An answer that is one page. */
export function pageAnswer<T>(page: Page<T>, show: (entry: T) => object): Response {
  return Response.json({
    data: page.items.map(show),
    meta: { cursor: page.cursor, total: page.total },
  });
}

/** A time as text. */
export function isoTime(milliseconds: number): string {
  return new Date(milliseconds).toISOString();
}

/** A version of a policy is stored as `name@version`; people see the name. */
function policyName(stored: string): string {
  return stored.slice(0, stored.lastIndexOf("@"));
}

function pick<T extends object, F extends keyof T>(source: T, fields: readonly F[]): Pick<T, F> {
  return Object.fromEntries(fields.map((field) => [field, source[field]])) as Pick<T, F>;
}
