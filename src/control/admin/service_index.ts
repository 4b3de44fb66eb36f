/** Numbers of services: given at creation, in the transaction that makes the service, and kept for life. */

import type { Resource } from "../../core/network/resources.ts";
import {
  assignIndexes,
  nextIndex,
  preferredIndex,
  SERVICE_INDEXES,
} from "../../core/service/virtual_address.ts";
import type { Store, StoreTransaction } from "../store.ts";
import { refuse } from "./decide.ts";

/** A number that no service has; refuses when none is left. */
export async function freeIndex(name: string, tx: StoreTransaction): Promise<number> {
  const count = async (where: Readonly<Record<string, number>>) =>
    (await tx.list("service", { limit: 1, where })).total;
  if (await count({}) > SERVICE_INDEXES.last - SERVICE_INDEXES.first) {
    return refuse({ fault: "conflict", detail: "No virtual address is left: remove services first" });
  }
  let index = preferredIndex(name);
  while (await count({ index }) > 0) index = nextIndex(index, SERVICE_INDEXES);
  return index;
}

/** Numbers the services that older controllers made; returns how many. */
export async function numberServices(store: Store): Promise<number> {
  const { resources } = await store.readAll(["service"]);
  if (resources.every(hasIndex)) return 0;
  return await store.transaction(async (tx) => {
    const services = await allServices(tx);
    const indexes = assignIndexes(
      services.map(({ name, spec: { index } }) => ({ name, ...(index !== undefined && { index }) })),
    );
    let numbered = 0;
    for (const service of services) {
      const index = indexes.get(service.name);
      if (hasIndex(service) || index === undefined) continue;
      await tx.update("service", service.id, { spec: { ...service.spec, index } });
      numbered++;
    }
    return numbered;
  });
}

function hasIndex({ spec }: Pick<Resource, "spec">): boolean {
  return "index" in spec;
}

async function allServices(tx: StoreTransaction): Promise<Resource<"service">[]> {
  const services: Resource<"service">[] = [];
  let cursor: string | null = null;
  do {
    const page: { readonly items: readonly Resource<"service">[]; readonly cursor: string | null } = await tx
      .list("service", { limit: 500, ...(cursor === null ? {} : { cursor }) });
    services.push(...page.items);
    cursor = page.cursor;
  } while (cursor !== null);
  return services;
}
