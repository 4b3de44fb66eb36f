import assert from "node:assert/strict";
import { sql } from "kysely";
import { SILENT_LOGGER } from "../../../src/base/log.ts";
import { openStore } from "../../../src/store/open_store.ts";
import type { StoreConfig } from "../../../src/store/sql/open_database.ts";
import type { Database } from "../../../src/store/sql/database.ts";
import { migrate } from "../../../src/store/sql/migrate.ts";
import { type Migration, MIGRATIONS } from "../../../src/store/sql/migrations.ts";
import { openPostgres } from "../../../src/store/sql/postgres_database.ts";
import { openSqlite } from "../../../src/store/sql/sqlite_database.ts";
import { needsPostgres, PostgresServer } from "../../support/postgres.ts";
import { testNeeding } from "../../support/require_tool.ts";
import { createAgent } from "../store_ground.ts";

const LATEST = MIGRATIONS.length;

/** A step that the next release might bring. */
const NEXT: Migration = {
  version: LATEST + 1,
  name: "notes",
  statements: () => ["ALTER TABLE services ADD COLUMN note TEXT", "UPDATE settings SET value = 'changed'"],
};

const BROKEN: Migration = {
  version: LATEST + 2,
  name: "broken",
  statements: () => ["CREATE TABLE half_way (id INTEGER)", "CREATE TABLE half_way (id INTEGER)"],
};

const CASES: readonly { readonly name: string; run(config: StoreConfig): Promise<void> }[] = [
  {
    name: "refuses the schema of a newer program, with a hint",
    async run(config) {
      await using store = await openAgain(config);
      await withDatabase(
        config,
        (database) => migrate(database, { now: Date.now, migrations: [...MIGRATIONS, NEXT] }),
      );
      await assert.rejects(openAgain(config), (error: Error & { code?: string; hint?: string }) => {
        assert.equal(error.code, "ERR_SCHEMA_NEWER");
        assert.match(error.message, new RegExp(`version ${LATEST + 1}`));
        assert.ok(error.hint);
        return true;
      });
      await store.ping();
    },
  },
  {
    name: "leaves everything as it was when a step fails",
    async run(config) {
      await (await openAgain(config))[Symbol.asyncDispose]();
      const migrations = [...MIGRATIONS, NEXT, BROKEN];
      await assert.rejects(
        withDatabase(config, (database) => migrate(database, { now: Date.now, migrations })),
        /half_way/,
      );
      await using _store = await openAgain(config);
    },
  },
  {
    name: "applies each step once, in order, and keeps the data",
    async run(config) {
      const alice = await (async () => {
        await using store = await openAgain(config);
        await store.setSetting("key", "first");
        return await createAgent(store, "alice");
      })();
      const migrations = [...MIGRATIONS, NEXT];
      const step = () => withDatabase(config, (database) => migrate(database, { now: Date.now, migrations }));
      assert.deepEqual(await step(), [LATEST + 1]);
      assert.deepEqual(await step(), []);
      await withDatabase(config, async ({ reader }) => {
        const rows = await reader.selectFrom("schema_migrations").select(["version", "name"]).orderBy(
          "version",
        )
          .execute();
        assert.deepEqual(rows.map(({ version }) => version), migrations.map(({ version }) => version));
        const { id } = await reader.selectFrom("identities").select("id").executeTakeFirstOrThrow();
        assert.equal(id, alice.id);
        await sql`SELECT note FROM services`.execute(reader);
        const { value } = await reader.selectFrom("settings").select("value").executeTakeFirstOrThrow();
        assert.equal(value, "changed");
      });
    },
  },
  {
    name: "is left to others by a store that only reads: it refuses every write and any other schema",
    async run(config) {
      const read = () => openStore(config, { logger: SILENT_LOGGER, readOnly: true });
      await withDatabase(config, (database) => migrate(database, { now: Date.now, migrations: [] }));
      await assert.rejects(read(), { code: "ERR_SCHEMA_OLDER" });
      await using writer = await openAgain(config);
      await using reader = await read();
      const alice = await createAgent(writer, "alice");
      assert.equal((await reader.get("identity", alice.id))?.name, "alice");
      await assert.rejects(createAgent(reader, "mallory"), /read-?only/);
      await assert.rejects(reader.setSetting("key", "value"), /read-?only/);
      await assert.rejects(reader.releaseAddress("alice"), /read-?only/);
      assert.equal((await writer.list("identity", { limit: 10 })).total, 1);
      const migrations = [...MIGRATIONS, NEXT];
      await withDatabase(config, (database) => migrate(database, { now: Date.now, migrations }));
      await assert.rejects(read(), { code: "ERR_SCHEMA_NEWER" });
    },
  },
  {
    name: "lets one of several that start at once do it",
    async run(config) {
      const stores = await Promise.all(Array.from({ length: 4 }, () => openAgain(config)));
      for (const store of stores) await store[Symbol.asyncDispose]();
      await withDatabase(config, async ({ reader }) => {
        const rows = await reader.selectFrom("schema_migrations").select("version").execute();
        assert.equal(rows.length, LATEST);
      });
    },
  },
];

for (const { name, run } of CASES) {
  Deno.test(`migrate() on SQLite ${name}`, async () => {
    const folder = await Deno.makeTempDir({ prefix: "ginnel-migrate-" });
    try {
      await run({ kind: "sqlite", path: `${folder}/ginnel.db` });
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  });
}

testNeeding([needsPostgres()], "migrate() on PostgreSQL", async (t) => {
  await using server = await PostgresServer.start();
  for (const { name, run } of CASES) {
    await t.step(name, async () => run({ kind: "postgres", url: await server.createDatabase() }));
  }
});

function openAgain(config: StoreConfig) {
  return openStore(config, { logger: SILENT_LOGGER });
}

async function withDatabase<T>(config: StoreConfig, work: (database: Database) => Promise<T>): Promise<T> {
  const database =
    await (config.kind === "sqlite"
      ? openSqlite(config.path)
      : openPostgres(config.url, { logger: SILENT_LOGGER }));
  try {
    return await work(database);
  } finally {
    await database.close();
  }
}
