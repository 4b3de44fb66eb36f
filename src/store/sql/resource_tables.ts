/** Which table holds which kind of resource, and how a resource becomes a row and back. */

import type { Resource, ResourceKind, ResourceSpecs } from "../../core/network/resources.ts";
import { toJson, toText } from "./json_text.ts";
import type { ResourceTable, Tables } from "./schema.ts";

/** Tables by kind. */
const RESOURCE_TABLES = {
  "identity": "identities",
  "service": "services",
  "config": "configs",
  "service-policy": "service_policies",
  "egress-policy": "policies",
  "trust-domain": "trust_domains",
  "auth-provider": "auth_providers",
  "api-token": "api_tokens",
} as const satisfies Record<ResourceKind, keyof Tables>;

/** Columns that repeat a part of the spec. */
const COLUMNS: { readonly [K in ResourceKind]?: (spec: ResourceSpecs[K]) => Record<string, unknown> } = {
  "identity": ({ type, spiffeId, externalId, disabled }) => ({
    type,
    spiffe_id: spiffeId,
    external_id: externalId,
    disabled,
  }),
  "config": ({ type }) => ({ type }),
  "service-policy": ({ type }) => ({ type }),
  "egress-policy": ({ version, description, document, active }) => ({
    version: toText(version),
    description: toText(description),
    default_action: readDefaultAction(document),
    active,
  }),
  "auth-provider": ({ issuer }) => ({ issuer }),
};

/**
 * The table of a kind under a name that kysely can type: of all tables of resources only the common columns are used
 * through it.
 */
export function tableOf(kind: ResourceKind): "services" {
  return RESOURCE_TABLES[kind] as "services";
}

/** The columns of a new or changed resource. */
export function toRow<K extends ResourceKind>(
  kind: K,
  { name, spec }: { readonly name: string; readonly spec: ResourceSpecs[K] },
): Pick<ResourceTable, "name" | "name_key" | "spec"> {
  const text = toText(name);
  return {
    name: text,
    name_key: text.toLowerCase(),
    spec: toJson(spec),
    ...COLUMNS[kind]?.(spec),
  };
}

/** The resource of a row. */
export function toResource<K extends ResourceKind>(kind: K, row: ResourceTable): Resource<K> {
  return {
    kind,
    id: row.id,
    name: row.name,
    spec: JSON.parse(row.spec) as ResourceSpecs[K],
    revision: row.revision,
    createdAt: row.created_at,
    updatedAt: row.updated_at,
  };
}

/** The rules of an egress document as rows: by client, in order. */
export function toRuleRows(
  policyId: string,
  document: Readonly<Record<string, unknown>>,
): Omit<Tables["policy_rules"], "id">[] {
  const clients = isRecord(document["clients"]) ? document["clients"] : {};
  return Object.entries(clients).flatMap(([client, entry]) => {
    const rules = isRecord(entry) && Array.isArray(entry["rules"]) ? entry["rules"] : [];
    return rules.map((rule: unknown, position) => ({
      policy_id: policyId,
      client_id: toText(client),
      position,
      rule_data: toJson(rule),
    }));
  });
}

function readDefaultAction(document: Readonly<Record<string, unknown>>): string | null {
  const action = document["default_action"];
  return typeof action === "string" ? toText(action) : null;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
