/** Which resources changed at which revision, and how far back that is known. */

import type { Transaction } from "kysely";
import {
  type Resource,
  RESOURCE_KINDS,
  type ResourceChange,
  type ResourceKind,
} from "../../core/network/resources.ts";
import { allResources, resourcesById } from "./resource_reader.ts";
import type { Tables } from "./schema.ts";

/** How long changes are kept: followers that were away for longer read everything again. */
const KEPT_FOR = 24 * 3_600_000;

/** The changes after a revision, each resource once and as it is now, by the revision of its last change. */
export async function readChanges(
  tx: Transaction<Tables>,
  since: number,
): Promise<{ readonly revision: number; readonly changes: readonly ResourceChange[] } | undefined> {
  const { revision, kept_from } = await readState(tx);
  if (since < kept_from || since > revision) return undefined;
  const rows = await tx.selectFrom("changes").select(["kind", "resource_id"])
    .select((eb) => eb.fn.max("revision").as("revision")).where("revision", ">", since)
    .groupBy(["kind", "resource_id"]).orderBy("revision").execute();
  const found = new Map<string, Map<string, Resource>>();
  for (const kind of RESOURCE_KINDS) {
    const ids = rows.filter((row) => row.kind === kind).map(({ resource_id }) => resource_id);
    if (ids.length > 0) found.set(kind, await resourcesById(tx, { kind, ids }));
  }
  const changes = rows.map(({ kind, resource_id: id }) =>
    ({
      kind: kind as ResourceKind,
      id,
      resource: found.get(kind)?.get(id) ?? null,
    }) as ResourceChange
  );
  return { revision, changes };
}

/** Everything of these kinds. */
export async function readEverything(
  tx: Transaction<Tables>,
  kinds: readonly ResourceKind[],
): Promise<{ readonly revision: number; readonly resources: readonly Resource[] }> {
  const { revision } = await readState(tx);
  const resources: Resource[] = [];
  for (const kind of kinds) resources.push(...await allResources(tx, kind));
  return { revision, resources };
}

/** Forgets old changes. */
export async function pruneChanges(tx: Transaction<Tables>, now: number): Promise<void> {
  const { last } = await tx.selectFrom("changes").select((eb) => eb.fn.max("revision").as("last"))
    .where("changed_at", "<", now - KEPT_FOR).executeTakeFirstOrThrow();
  if (last === null) return;
  await tx.deleteFrom("changes").where("revision", "<=", last).execute();
  await tx.updateTable("network_state").set({ kept_from: last }).where("id", "=", 1).execute();
}

function readState(tx: Transaction<Tables>) {
  return tx.selectFrom("network_state").selectAll().where("id", "=", 1).executeTakeFirstOrThrow();
}
