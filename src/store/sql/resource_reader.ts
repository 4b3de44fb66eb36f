/** Reads resources: one, a page of them, or all. The same inside transactions and outside. */

import { type Expression, sql, type SqlBool } from "kysely";
import type { ListQuery, Page } from "../../core/network/listing.ts";
import type { Resource, ResourceKind } from "../../core/network/resources.ts";
import { fromCursor, toCursor } from "./cursor.ts";
import type { DatabaseKind, Queries } from "./database.ts";
import { tableOf, toResource } from "./resource_tables.ts";

/** Most items of a page. */
const MAX_LIMIT = 500;

/** Ids in one query; SQLite takes 32,766 parameters, PostgreSQL 65,534. */
const IDS_AT_ONCE = 5_000;

/** By id. */
export async function getResource<K extends ResourceKind>(
  db: Queries,
  { kind, id }: { readonly kind: K; readonly id: string },
): Promise<Resource<K> | undefined> {
  const row = await db.selectFrom(tableOf(kind)).selectAll().where("id", "=", id).executeTakeFirst();
  return row && toResource(kind, row);
}

/** By name, or an identity by its SPIFFE ID. */
export async function findResource<K extends ResourceKind>(
  db: Queries,
  { kind, key }: { readonly kind: K; readonly key: string },
): Promise<Resource<K> | undefined> {
  if (kind === "identity" && key.startsWith("spiffe://")) {
    const row = await db.selectFrom("identities").selectAll().where("spiffe_id", "=", key).executeTakeFirst();
    return row && toResource(kind, row);
  }
  // Names of identities are unique among one type only: the oldest counts.
  const row = await db.selectFrom(tableOf(kind)).selectAll().where("name", "=", key)
    .orderBy("created_at").orderBy("id").limit(1).executeTakeFirst();
  return row && toResource(kind, row);
}

/** A page, by name, then id. */
export async function listResources<K extends ResourceKind>(
  db: Queries,
  { kind, query, database }: {
    readonly kind: K;
    readonly query: ListQuery;
    readonly database: DatabaseKind;
  },
): Promise<Page<Resource<K>>> {
  const conditions = toConditions(query, database);
  const table = db.selectFrom(tableOf(kind)).where((eb) => eb.and(conditions));
  const { total } = await table.select((eb) => eb.fn.countAll().as("total")).executeTakeFirstOrThrow();
  const limit = Math.min(Math.max(Math.trunc(query.limit), 1), MAX_LIMIT);
  let page = table.selectAll().orderBy("name").orderBy("id").limit(limit + 1);
  if (query.cursor !== undefined) {
    const [name, id] = fromCursor(query.cursor, ["", ""] as const);
    page = page.where((eb) => eb(eb.refTuple("name", "id"), ">", eb.tuple(name, id)));
  }
  const rows = await page.execute();
  const items = rows.slice(0, limit).map((row) => toResource(kind, row));
  const last = items.at(-1);
  const cursor = rows.length > limit && last !== undefined ? toCursor([last.name, last.id]) : null;
  return { items, cursor, total: Number(total) };
}

/** All of one kind, oldest first. */
export async function allResources<K extends ResourceKind>(db: Queries, kind: K): Promise<Resource<K>[]> {
  const rows = await db.selectFrom(tableOf(kind)).selectAll().orderBy("created_at").orderBy("id").execute();
  return rows.map((row) => toResource(kind, row));
}

/** Those of one kind with these ids, by id. */
export async function resourcesById<K extends ResourceKind>(
  db: Queries,
  { kind, ids }: { readonly kind: K; readonly ids: readonly string[] },
): Promise<Map<string, Resource<K>>> {
  const found = new Map<string, Resource<K>>();
  for (let start = 0; start < ids.length; start += IDS_AT_ONCE) {
    const rows = await db.selectFrom(tableOf(kind)).selectAll()
      .where("id", "in", ids.slice(start, start + IDS_AT_ONCE)).execute();
    for (const row of rows) found.set(row.id, toResource(kind, row));
  }
  return found;
}

function toConditions(query: ListQuery, database: DatabaseKind): Expression<SqlBool>[] {
  const conditions: Expression<SqlBool>[] = [];
  if (query.name !== undefined) conditions.push(sql<SqlBool>`name = ${query.name}`);
  if (query.search !== undefined) {
    const pattern = `%${query.search.toLowerCase().replaceAll(/[\\%_]/g, "\\$&")}%`;
    conditions.push(sql<SqlBool>`name_key LIKE ${pattern} ESCAPE '\\'`);
  }
  for (const [key, value] of Object.entries(query.where ?? {})) {
    conditions.push(hasValue(database, { key, value }));
  }
  if (query.roleAttribute !== undefined) conditions.push(hasAttribute(database, query.roleAttribute));
  return conditions;
}

function hasValue(
  database: DatabaseKind,
  { key, value }: { readonly key: string; readonly value: string | number | boolean },
): Expression<SqlBool> {
  // As a literal: an index on the same expression serves it.
  if (!/^[A-Za-z][A-Za-z0-9]{0,63}$/.test(key)) {
    throw new RangeError(`Cannot filter by ${JSON.stringify(key)}`);
  }
  const json = JSON.stringify(value);
  return database === "sqlite"
    ? sql<SqlBool>`(spec -> ${sql.lit(`$.${key}`)}) = ${json}`
    : sql<SqlBool>`(spec::jsonb -> ${sql.lit(key)}) = ${json}::jsonb`;
}

function hasAttribute(database: DatabaseKind, attribute: string): Expression<SqlBool> {
  const lists = ["roleAttributes", "derivedAttributes"].map((list) =>
    database === "sqlite"
      ? sql<SqlBool>`EXISTS (SELECT 1 FROM json_each(spec, ${
        sql.lit(`$.${list}`)
      }) WHERE value = ${attribute})`
      : sql<SqlBool>`(spec::jsonb -> ${sql.lit(list)}) ? ${attribute}`
  );
  return sql<SqlBool>`(${sql.join(lists, sql` OR `)})`;
}
