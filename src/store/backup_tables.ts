/** What a backup holds, table by table, in an order in which references find what they refer to. */

/** One table of a backup. */
export interface BackupTable {
  readonly name: string;
  /** Schema version that brought it. */
  readonly since: number;
  /** Its unique key, by which it is read in pages. */
  readonly key: readonly string[];
  /** Columns that are true or false: SQLite has numbers there. */
  readonly booleans?: readonly string[];
  /** Columns that the database fills by itself. */
  readonly omitted?: readonly string[];
}

/** All tables. */
export const BACKUP_TABLES: readonly BackupTable[] = [
  { name: "network_state", since: 1, key: ["id"] },
  { name: "settings", since: 1, key: ["key"] },
  { name: "identities", since: 1, key: ["id"], booleans: ["disabled"] },
  { name: "services", since: 1, key: ["id"] },
  { name: "configs", since: 1, key: ["id"] },
  { name: "service_policies", since: 1, key: ["id"] },
  { name: "policies", since: 1, key: ["id"], booleans: ["active"] },
  { name: "policy_rules", since: 1, key: ["id"], omitted: ["id"] },
  { name: "trust_domains", since: 1, key: ["id"] },
  { name: "auth_providers", since: 1, key: ["id"] },
  { name: "api_tokens", since: 1, key: ["id"] },
  { name: "enrolments", since: 1, key: ["id"] },
  { name: "certificates", since: 1, key: ["serial"] },
  { name: "ipam_allocations", since: 1, key: ["client_id"] },
  { name: "ipam_pools", since: 1, key: ["pool"] },
  { name: "ipam_free", since: 1, key: ["pool", "host_index"] },
  { name: "relays", since: 1, key: ["identity"] },
  { name: "sessions", since: 1, key: ["relay", "id"] },
  { name: "changes", since: 1, key: ["revision", "kind", "resource_id"] },
  { name: "once", since: 1, key: ["key"] },
  { name: "audit", since: 1, key: ["seq"] },
  { name: "audit_head", since: 1, key: ["id"] },
];

/** Tables that a new database has a row in. */
export const SINGLE_ROW_TABLES = ["network_state", "audit_head"] as const;

/** Tables that may have rows in a database that holds no network. */
export const BOOKKEEPING_TABLES: ReadonlySet<string> = new Set(SINGLE_ROW_TABLES);
