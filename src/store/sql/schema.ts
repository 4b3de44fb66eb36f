/**
 * The tables as kysely knows them. Times are milliseconds since the epoch on this side: `TIMESTAMPTZ` in PostgreSQL,
 * integers in SQLite. JSON is text on this side: `JSONB` in PostgreSQL.
 */

import type { Generated } from "kysely";

/** What every table of resources has. */
export interface ResourceTable {
  readonly id: string;
  readonly name: string;
  /** The name in lower case, for searching. */
  readonly name_key: string;
  readonly revision: number;
  readonly created_at: number;
  readonly updated_at: number;
  /** The resource's spec, JSON. */
  readonly spec: string;
}

/** All tables. Columns that repeat a part of `spec` are there for keys and for people's own queries. */
export interface Tables {
  readonly identities: ResourceTable & {
    readonly type: string;
    readonly spiffe_id: string;
    readonly external_id: string | null;
    readonly disabled: boolean;
  };
  readonly services: ResourceTable;
  readonly configs: ResourceTable & { readonly type: string };
  readonly service_policies: ResourceTable & { readonly type: string };
  readonly policies: ResourceTable & {
    readonly version: string;
    readonly description: string;
    readonly default_action: string | null;
    readonly active: boolean;
  };
  readonly policy_rules: {
    readonly id: Generated<number>;
    readonly policy_id: string;
    readonly client_id: string;
    /** Its place among the client's rules, from 0. */
    readonly position: number;
    readonly rule_data: string;
  };
  readonly trust_domains: ResourceTable;
  readonly auth_providers: ResourceTable & { readonly issuer: string };
  readonly api_tokens: ResourceTable;
  readonly enrolments: {
    readonly id: string;
    readonly identity_id: string;
    readonly created_at: number;
    readonly expires_at: number;
    readonly used_at: number | null;
  };
  readonly certificates: {
    readonly serial: string;
    readonly identity_id: string;
    readonly spiffe_id: string;
    readonly issued_at: number;
    readonly not_after: number;
    readonly issuer: string;
    readonly revoked_at: number | null;
  };
  readonly ipam_allocations: {
    readonly client_id: string;
    readonly virtual_ip: string | null;
    readonly virtual_ip6: string | null;
    readonly allocated_at: number;
    readonly last_seen_at: number;
    readonly metadata: string;
  };
  /** How far each pool's addresses were handed out. */
  readonly ipam_pools: { readonly pool: string; readonly next_index: number };
  /** Addresses that may be handed out at once. */
  readonly ipam_free: {
    readonly pool: string;
    readonly host_index: number;
    readonly address: string;
    /** Milliseconds since the epoch; 0: nobody had it yet. */
    readonly freed_at: number;
  };
  readonly relays: {
    readonly identity: string;
    readonly revision: number;
    readonly version: string;
    readonly sessions: number;
    readonly last_seen_at: number;
  };
  readonly sessions: {
    readonly id: string;
    readonly relay: string;
    readonly identity: string;
    readonly kind: string;
    readonly remote: string;
    /** JSON array of names. */
    readonly services: string;
    readonly opened_at: number;
    readonly last_seen_at: number;
    readonly closed_at: number | null;
  };
  readonly audit: {
    readonly seq: number;
    readonly time: number;
    readonly event: string;
    readonly who: string;
    readonly target: string;
    readonly outcome: string;
    readonly detail: string;
    readonly source: string;
    readonly hash: string;
  };
  /** One row: the last entry of the audit log. */
  readonly audit_head: { readonly id: number; readonly seq: number; readonly hash: string };
  /** One row: the network's revision, and the one behind which changes are still kept. */
  readonly network_state: { readonly id: number; readonly revision: number; readonly kept_from: number };
  readonly changes: {
    readonly revision: number;
    readonly kind: string;
    readonly resource_id: string;
    readonly changed_at: number;
  };
  readonly settings: { readonly key: string; readonly value: string };
  readonly once: { readonly key: string; readonly expires_at: number };
  readonly schema_migrations: {
    readonly version: number;
    readonly name: string;
    readonly applied_at: number;
  };
}
