/** Holds the stores on SQLite and on PostgreSQL to one contract, and to what is refused when one is opened. */

import assert from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";
import postgres from "postgres";
import { SILENT_LOGGER } from "../../src/base/log.ts";
import { openStore } from "../../src/store/open_store.ts";
import type { StoreConfig } from "../../src/store/sql/open_database.ts";
import { eventually } from "../support/eventually.ts";
import { needsPostgres, PostgresServer } from "../support/postgres.ts";
import { testNeeding } from "../support/require_tool.ts";
import { ADDRESS_CONTRACT } from "./address_contract.ts";
import { AUDIT_CONTRACT } from "./audit_contract.ts";
import { RESOURCE_CONTRACT } from "./resource_contract.ts";
import { STORE_CONTRACT } from "./store_contract.ts";
import type { StoreGround } from "./store_ground.ts";

const CONTRACT = [...STORE_CONTRACT, ...RESOURCE_CONTRACT, ...AUDIT_CONTRACT, ...ADDRESS_CONTRACT];

for (const { name, run } of CONTRACT) {
  Deno.test(`a store on SQLite: ${name}`, async () => {
    await using folder = await makeFolder();
    await run(sqliteGround(`${folder.path}/ginnel.db`));
  });
}

testNeeding([needsPostgres()], "a store on PostgreSQL keeps the contract", async (t) => {
  await using server = await PostgresServer.start();
  for (const { name, run } of CONTRACT) {
    await t.step(name, async () => run(postgresGround(await server.createDatabase())));
  }
});

testNeeding(
  [needsPostgres()],
  "openStore() refuses a server it cannot use, without showing the password",
  async () => {
    await using server = await PostgresServer.start();
    const url = new URL(await server.createDatabase());
    const wrong = (change: Partial<Record<"password" | "pathname" | "username" | "port", string>>) =>
      open({ kind: "postgres", url: Object.assign(new URL(url), { password: "hunter2", ...change }).href });
    for (const change of [{}, { pathname: "/absent" }, { username: "nobody" }, { port: "1" }]) {
      await assert.rejects(wrong(change), (error: Error & { code?: string; hint?: string }) => {
        assert.equal(error.code, "ERR_DATABASE_UNUSABLE");
        assert.ok(error.hint);
        assert.doesNotMatch(`${error.message} ${error.hint}`, /hunter2/);
        return true;
      });
    }
  },
);

testNeeding([needsPostgres()], "openStore() waits for a server that starts later, and says so", async () => {
  await using server = await PostgresServer.start();
  const url = await server.createDatabase();
  await server.stop();
  const events: string[] = [];
  const logger = { ...SILENT_LOGGER, warn: (event: string) => void events.push(event) };
  const opening = openStore({ kind: "postgres", url }, { logger, patience: 30_000 });
  await eventually(() => events.length > 0);
  await server.start();
  await using _store = await opening;
  assert.deepEqual(events, ["database_awaited"]);
});

Deno.test("openStore() refuses a URL that is none, without showing it", async () => {
  for (const url of ["postgres://a:hunter2@[", "postgres://a:hun%ter2@b/c"]) {
    await assert.rejects(open({ kind: "postgres", url }), (error: Error & { code?: string }) => {
      assert.equal(error.code, "ERR_DATABASE_URL");
      assert.doesNotMatch(Deno.inspect(error), /hun/);
      return true;
    });
  }
});

Deno.test("openStore() refuses a file that is no database, and memory", async () => {
  await using folder = await makeFolder();
  await Deno.writeTextFile(`${folder.path}/text`, "This is no database. ".repeat(100));
  const refused = { code: "ERR_DATABASE_UNUSABLE" };
  await assert.rejects(open({ kind: "sqlite", path: `${folder.path}/text` }), refused);
  await assert.rejects(open({ kind: "sqlite", path: folder.path }), refused);
  await assert.rejects(open({ kind: "sqlite", path: ":memory:" }), { code: "ERR_DATABASE_PATH" });
});

Deno.test("openStore() makes files that only their owner may read", async () => {
  await using folder = await makeFolder();
  await using _store = await open({ kind: "sqlite", path: `${folder.path}/new/ginnel.db` });
  for await (const { name } of Deno.readDir(`${folder.path}/new`)) {
    const { mode } = await Deno.stat(`${folder.path}/new/${name}`);
    assert.equal(mode! & 0o777, 0o600, name);
  }
  assert.equal((await Deno.stat(`${folder.path}/new`)).mode! & 0o777, 0o700);
});

function open(config: StoreConfig) {
  return openStore(config, { logger: SILENT_LOGGER });
}

function sqliteGround(path: string): StoreGround {
  return {
    open: () => open({ kind: "sqlite", path }),
    execute(statement) {
      const db = new DatabaseSync(path);
      try {
        db.exec(statement);
        return Promise.resolve();
      } catch (error) {
        return Promise.reject(error);
      } finally {
        db.close();
      }
    },
  };
}

function postgresGround(url: string): StoreGround {
  return {
    open: () => open({ kind: "postgres", url }),
    async execute(statement) {
      const sql = postgres(url, { max: 1, fetch_types: false });
      try {
        await sql.unsafe(statement);
      } finally {
        await sql.end();
      }
    },
  };
}

async function makeFolder(): Promise<AsyncDisposable & { readonly path: string }> {
  const path = await Deno.makeTempDir({ prefix: "ginnel-store-" });
  return { path, [Symbol.asyncDispose]: () => Deno.remove(path, { recursive: true }) };
}
