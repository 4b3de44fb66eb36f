import assert from "node:assert/strict";
import { SILENT_LOGGER } from "../../src/base/log.ts";
import { main } from "../../src/cli/main.ts";
import { openStore } from "../../src/store/open_store.ts";
import { createAgent } from "../store/store_ground.ts";
import { Printed } from "./demo_folder.ts";

/** A folder with a controller's config; its database has one identity. */
async function withController(
  work: (ground: { readonly folder: string; readonly config: string }) => Promise<void>,
): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "ginnel-backup-cli-" });
  try {
    const config = await addController(folder, "first");
    await using store = await openStore({ kind: "sqlite", path: `${folder}/first/ginnel.db` }, {
      logger: SILENT_LOGGER,
    });
    await createAgent(store, "alice");
    await work({ folder, config });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

async function addController(folder: string, name: string): Promise<string> {
  const path = `${folder}/${name}.json`;
  await Deno.writeTextFile(
    path,
    JSON.stringify({ mode: "controller", name, trustDomain: "dev", data: name }),
  );
  return path;
}

async function run(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  const io = new Printed();
  const code = await main(args, io);
  return { code, out: io.out, err: io.err };
}

Deno.test("backup writes the database of a config, restore puts it into another", async () => {
  await withController(async ({ folder, config }) => {
    const file = `${folder}/backup`;
    const backup = await run("backup", "--config", config, "-o", file);
    assert.deepEqual([backup.code, backup.err], [0, ""]);
    assert.match(backup.out, /^Wrote \d+ rows of .*\/first\/ginnel\.db to .*, revision 1\n/);
    assert.match(backup.out, /CA and the authority are not in it: copy .*\/first too\n$/);
    const other = await addController(folder, "second");
    const restore = await run("restore", file, "--config", other, "--json");
    assert.deepEqual([restore.code, restore.err], [0, ""]);
    assert.equal(JSON.parse(restore.out).database, `${folder}/second/ginnel.db`);
    await using store = await openStore({ kind: "sqlite", path: `${folder}/second/ginnel.db` }, {
      logger: SILENT_LOGGER,
    });
    assert.equal((await store.find("identity", "spiffe://example.internal/agent/alice"))?.name, "alice");
  });
});

Deno.test("restore replaces a network only with --force, wherever the flag stands", async () => {
  await withController(async ({ folder, config }) => {
    const file = `${folder}/backup`;
    await run("backup", "--config", config, "--output", file);
    const refused = await run("restore", "--config", config, file);
    assert.equal(refused.code, 1);
    assert.match(refused.err, /holds a network\. .*--force/);
    assert.equal((await run("restore", "--config", config, "--force", file)).code, 0);
    assert.equal((await run("restore", file, "--force", `--config=${config}`)).code, 0);
  });
});

Deno.test("backup and restore say what is missing or wrong", async () => {
  await withController(async ({ folder, config }) => {
    const empty = await addController(folder, "empty");
    const agent = `${folder}/agent.json`;
    await Deno.writeTextFile(
      agent,
      JSON.stringify({
        mode: "connector",
        identity: "a.json",
        relays: [{ address: "127.0.0.1:4433", name: "relay-1" }],
        services: [{ name: "a", upstream: "tcp://127.0.0.1:1" }],
      }),
    );
    const cases: [string[], number, RegExp][] = [
      [["backup"], 2, /Missing --config FILE/],
      [["backup", "--config", config], 2, /Missing --output FILE/],
      [["backup", "--config", empty, "-o", `${folder}/x`], 1, /there is no such file/],
      [["backup", "--config", agent, "-o", `${folder}/x`], 2, /only these have a database/],
      [["backup", "--config", config, "-o", `${folder}/no/x`], 1, /Cannot write/],
      [["restore"], 2, /Missing FILE/],
      [["restore", "--config", config], 2, /Missing FILE/],
      [["restore", `${folder}/absent`, "--config", config], 1, /Cannot read/],
      [["restore", config, "--config", config], 1, /no backup|Cannot restore/],
    ];
    for (const [args, code, says] of cases) {
      const result = await run(...args);
      assert.equal(result.code, code, `${args.join(" ")}: ${result.err}`);
      assert.match(result.err, says);
      assert.equal(result.out, "");
    }
    assert.match((await run("backup", "--help")).out, /^Usage: ginnel backup/);
    assert.match((await run("restore", "--help")).out, /^Usage: ginnel restore/);
  });
});
