/** No two services share a number, whichever controller makes them and however their names collide. */

import assert from "node:assert/strict";
import { SILENT_LOGGER } from "../../../src/base/log.ts";
import { freeIndex, numberServices } from "../../../src/control/admin/service_index.ts";
import type { Store } from "../../../src/control/store.ts";
import type { ServiceSpec } from "../../../src/core/network/resources.ts";
import { assignIndexes, preferredIndex } from "../../../src/core/service/virtual_address.ts";
import { openStore } from "../../../src/store/open_store.ts";
import type { StoreConfig } from "../../../src/store/sql/open_database.ts";
import { needsPostgres, PostgresServer } from "../../support/postgres.ts";
import { testNeeding } from "../../support/require_tool.ts";

const SPEC: ServiceSpec = { configs: [], encryptionRequired: true, roleAttributes: [], tags: {} };

/** Names that all want the same number. */
const COLLIDING = colliding(4);

const CASES: readonly [name: string, run: (config: StoreConfig) => Promise<void>][] = [
  ["two controllers at once give each service a number of its own", async (config) => {
    await using first = await open(config);
    await using second = await open(config);
    const names = [...COLLIDING, ...Array.from({ length: 12 }, (_, i) => `s${i}`)];
    await Promise.all(names.map((name, i) => make(i % 2 === 0 ? first : second, name)));
    const indexes = await indexesOf(first);
    assert.equal(new Set(indexes.values()).size, names.length);
    const wanted = preferredIndex(COLLIDING[0]!);
    assert.deepEqual(
      COLLIDING.map((name) => indexes.get(name)).toSorted(),
      [wanted, wanted + 1, wanted + 2, wanted + 3],
    );
  }],
  ["the database itself refuses a number that is taken", async (config) => {
    await using store = await open(config);
    const put = (name: string) =>
      store.transaction((tx) => tx.create("service", { name, spec: { ...SPEC, index: 20 } }));
    assert.ok((await put("a")).ok);
    assert.deepEqual(await put("b"), { ok: false, fault: "exists" });
  }],
  ["services of older controllers are numbered once, around those that have a number", async (config) => {
    await using store = await open(config);
    const [fixed, ...old] = COLLIDING;
    await make(store, fixed!);
    for (const name of old) await store.transaction((tx) => tx.create("service", { name, spec: SPEC }));
    const before = await store.revision();
    assert.equal(await numberServices(store), old.length);
    assert.equal(await store.revision(), before + 1);
    const indexes = await indexesOf(store);
    const taken = preferredIndex(fixed!);
    assert.deepEqual(
      indexes,
      assignIndexes([{ name: fixed!, index: taken }, ...old.map((name) => ({ name }))]),
    );
    assert.equal(await numberServices(store), 0);
    assert.equal(await store.revision(), before + 1);
  }],
];

for (const [name, run] of CASES) {
  Deno.test(`service numbers on SQLite: ${name}`, async () => {
    const folder = await Deno.makeTempDir({ prefix: "ginnel-numbers-" });
    try {
      await run({ kind: "sqlite", path: `${folder}/ginnel.db` });
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  });
}

testNeeding([needsPostgres()], "service numbers on PostgreSQL", async (t) => {
  await using server = await PostgresServer.start();
  for (const [name, run] of CASES) {
    await t.step(name, async () => run({ kind: "postgres", url: await server.createDatabase() }));
  }
});

function open(config: StoreConfig): Promise<Store> {
  return openStore(config, { logger: SILENT_LOGGER });
}

async function make(store: Store, name: string): Promise<void> {
  const made = await store.transaction(async (tx) =>
    tx.create("service", { name, spec: { ...SPEC, index: await freeIndex(name, tx) } })
  );
  assert.ok(made.ok);
}

async function indexesOf(store: Store): Promise<Map<string, number | undefined>> {
  const { items } = await store.list("service", { limit: 500 });
  return new Map(items.map(({ name, spec }) => [name, spec.index]));
}

function colliding(count: number): string[] {
  const byIndex = new Map<number, string[]>();
  for (let i = 0;; i++) {
    const name = `c${i}`;
    const names = byIndex.get(preferredIndex(name)) ?? [];
    byIndex.set(preferredIndex(name), names);
    if (names.push(name) === count) return names;
  }
}
