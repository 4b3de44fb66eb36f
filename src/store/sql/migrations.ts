/** The schema's history: each version's statements, for both databases. Published versions are never edited. */

import type { DatabaseKind } from "./database.ts";

/** One step of the schema. */
export interface Migration {
  readonly version: number;
  readonly name: string;
  statements(kind: DatabaseKind): readonly string[];
}

/** Column types by database. "C": names sort by their bytes, as SQLite does. */
const TYPES = {
  sqlite: {
    text: "TEXT",
    time: "INTEGER",
    json: "TEXT",
    verbatimJson: "TEXT",
    long: "INTEGER",
    bool: "INTEGER",
    inet: "TEXT",
    serial: "INTEGER PRIMARY KEY",
  },
  postgres: {
    text: 'TEXT COLLATE "C"',
    time: "TIMESTAMPTZ",
    json: "JSONB",
    // As it was written: JSONB would refuse \u0000, which a peer may have sent, and lose the order of keys, which counts in
    // egress policies.
    verbatimJson: "JSON",
    long: "BIGINT",
    bool: "BOOLEAN",
    inet: "INET",
    serial: "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
  },
} as const satisfies Record<DatabaseKind, Record<string, string>>;

/** All versions, oldest first. */
export const MIGRATIONS: readonly Migration[] = [
  { version: 1, name: "network", statements: (kind) => [...resourceTables(kind), ...otherTables(kind)] },
  {
    version: 2,
    name: "service numbers",
    // As lists ask for it: the JSON value. Services without a number are as many as they like.
    statements: (kind) => [
      `CREATE UNIQUE INDEX idx_services_index ON services ((spec -> ${
        kind === "sqlite" ? "'$.index'" : "'index'"
      }))`,
    ],
  },
];

function resourceTables(kind: DatabaseKind): string[] {
  const t = TYPES[kind];
  const table = (
    name: string,
    columns: readonly string[],
    { unique = "name", spec = t.json as string } = {},
  ) => [
    `CREATE TABLE ${name} (
      id ${t.text} PRIMARY KEY,
      name ${t.text} NOT NULL,
      name_key ${t.text} NOT NULL,
      revision ${t.long} NOT NULL,
      created_at ${t.time} NOT NULL,
      updated_at ${t.time} NOT NULL,
      spec ${spec} NOT NULL,
      ${columns.map((column) => `${column},`).join(" ")}
      UNIQUE (${unique})
    )`,
    `CREATE INDEX idx_${name}_order ON ${name} (name, id)`,
  ];
  return [
    ...table("identities", [
      `type ${t.text} NOT NULL`,
      `spiffe_id ${t.text} NOT NULL UNIQUE`,
      `external_id ${t.text}`,
      `disabled ${t.bool} NOT NULL`,
    ], { unique: "type, name" }),
    // As lists ask for it: the JSON value.
    `CREATE INDEX idx_identities_external ON identities ((spec -> ${
      kind === "sqlite" ? "'$.externalId'" : "'externalId'"
    }))`,
    ...table("services", []),
    ...table("configs", [`type ${t.text} NOT NULL`]),
    ...table("service_policies", [`type ${t.text} NOT NULL`]),
    ...table("policies", [
      `version ${t.text} NOT NULL`,
      `description ${t.text} NOT NULL`,
      `default_action ${t.text}`,
      `active ${t.bool} NOT NULL`,
    ], { spec: t.verbatimJson }),
    `CREATE TABLE policy_rules (
      id ${t.serial},
      policy_id ${t.text} NOT NULL REFERENCES policies (id) ON DELETE CASCADE,
      client_id ${t.text} NOT NULL,
      position INTEGER NOT NULL,
      rule_data ${t.json} NOT NULL
    )`,
    "CREATE INDEX idx_policy_client ON policy_rules (policy_id, client_id)",
    ...table("trust_domains", []),
    ...table("auth_providers", [`issuer ${t.text} NOT NULL`]),
    ...table("api_tokens", []),
  ];
}

function otherTables(kind: DatabaseKind): string[] {
  const t = TYPES[kind];
  return [
    `CREATE TABLE enrolments (
      id ${t.text} PRIMARY KEY,
      identity_id ${t.text} NOT NULL REFERENCES identities (id) ON DELETE CASCADE,
      created_at ${t.time} NOT NULL,
      expires_at ${t.time} NOT NULL,
      used_at ${t.time}
    )`,
    "CREATE INDEX idx_enrolments_identity ON enrolments (identity_id)",
    // No reference: a deleted identity's certificates stay revoked until they expire.
    `CREATE TABLE certificates (
      serial ${t.text} PRIMARY KEY,
      identity_id ${t.text} NOT NULL,
      spiffe_id ${t.text} NOT NULL,
      issued_at ${t.time} NOT NULL,
      not_after ${t.time} NOT NULL,
      issuer ${t.text} NOT NULL,
      revoked_at ${t.time}
    )`,
    "CREATE INDEX idx_certificates_identity ON certificates (identity_id)",
    "CREATE INDEX idx_certificates_revoked ON certificates (not_after) WHERE revoked_at IS NOT NULL",
    `CREATE TABLE ipam_allocations (
      client_id ${t.text} PRIMARY KEY,
      virtual_ip ${t.inet} UNIQUE,
      virtual_ip6 ${t.inet} UNIQUE,
      allocated_at ${t.time} NOT NULL,
      last_seen_at ${t.time} NOT NULL,
      metadata ${t.json} NOT NULL
    )`,
    "CREATE INDEX idx_virtual_ip ON ipam_allocations (virtual_ip)",
    "CREATE INDEX idx_last_seen ON ipam_allocations (last_seen_at, client_id)",
    `CREATE TABLE ipam_pools (pool ${t.text} PRIMARY KEY, next_index ${t.long} NOT NULL)`,
    `CREATE TABLE ipam_free (
      pool ${t.text} NOT NULL,
      host_index ${t.long} NOT NULL,
      address ${t.inet} NOT NULL,
      freed_at ${t.long} NOT NULL,
      PRIMARY KEY (pool, host_index)
    )`,
    "CREATE INDEX idx_free_order ON ipam_free (pool, freed_at, host_index)",
    "CREATE INDEX idx_free_address ON ipam_free (address)",
    `CREATE TABLE relays (
      identity ${t.text} PRIMARY KEY,
      revision ${t.long} NOT NULL,
      version ${t.text} NOT NULL,
      sessions INTEGER NOT NULL,
      last_seen_at ${t.time} NOT NULL
    )`,
    `CREATE TABLE sessions (
      id ${t.text} NOT NULL,
      relay ${t.text} NOT NULL,
      identity ${t.text} NOT NULL,
      kind ${t.text} NOT NULL,
      remote ${t.text} NOT NULL,
      services ${t.json} NOT NULL,
      opened_at ${t.time} NOT NULL,
      last_seen_at ${t.time} NOT NULL,
      closed_at ${t.time},
      PRIMARY KEY (relay, id)
    )`,
    "CREATE INDEX idx_sessions_order ON sessions (opened_at, id)",
    "CREATE INDEX idx_sessions_identity ON sessions (identity)",
    "CREATE INDEX idx_sessions_closed ON sessions (closed_at)",
    `CREATE VIEW connectors AS
      SELECT identity, relay, remote, services, opened_at, last_seen_at FROM sessions
      WHERE kind = 'connector' AND closed_at IS NULL`,
    `CREATE TABLE audit (
      seq ${t.long} PRIMARY KEY,
      time ${t.time} NOT NULL,
      event ${t.text} NOT NULL,
      who ${t.text} NOT NULL,
      target ${t.text} NOT NULL,
      outcome ${t.text} NOT NULL,
      detail ${t.verbatimJson} NOT NULL,
      source ${t.text} NOT NULL,
      hash ${t.text} NOT NULL
    )`,
    "CREATE INDEX idx_audit_time ON audit (time)",
    "CREATE INDEX idx_audit_who ON audit (who, seq)",
    "CREATE INDEX idx_audit_target ON audit (target, seq)",
    ...appendOnly(kind),
    `CREATE TABLE audit_head (id INTEGER PRIMARY KEY CHECK (id = 1), seq ${t.long} NOT NULL, hash ${t.text} NOT NULL)`,
    `INSERT INTO audit_head VALUES (1, 0, '${"0".repeat(64)}')`,
    `CREATE TABLE network_state (
      id INTEGER PRIMARY KEY CHECK (id = 1),
      revision ${t.long} NOT NULL,
      kept_from ${t.long} NOT NULL
    )`,
    "INSERT INTO network_state VALUES (1, 0, 0)",
    `CREATE TABLE changes (
      revision ${t.long} NOT NULL,
      kind ${t.text} NOT NULL,
      resource_id ${t.text} NOT NULL,
      changed_at ${t.time} NOT NULL,
      PRIMARY KEY (revision, kind, resource_id)
    )`,
    `CREATE TABLE settings (key ${t.text} PRIMARY KEY, value ${t.text} NOT NULL)`,
    `CREATE TABLE once (key ${t.text} PRIMARY KEY, expires_at ${t.time} NOT NULL)`,
    "CREATE INDEX idx_once_expires ON once (expires_at)",
  ];
}

/** The database itself refuses to change or remove entries of the audit log. */
function appendOnly(kind: DatabaseKind): string[] {
  if (kind === "sqlite") {
    return ["UPDATE", "DELETE"].map((verb) =>
      `CREATE TRIGGER audit_no_${verb.toLowerCase()} BEFORE ${verb} ON audit
        BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END`
    );
  }
  return [
    `CREATE FUNCTION audit_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
      BEGIN RAISE EXCEPTION 'the audit log is append-only'; END $$`,
    `CREATE TRIGGER audit_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit
      FOR EACH STATEMENT EXECUTE FUNCTION audit_append_only()`,
  ];
}
