/** What a relay keeps of its network survives crashes whole or not at all, and nobody else may read it. */

import assert from "node:assert/strict";
import { join } from "node:path";
import fc from "fast-check";
import { SILENT_LOGGER } from "../../src/base/log.ts";
import { emptyState } from "../../src/core/network/apply.ts";
import { SnapshotCache } from "../../src/store/snapshot_cache.ts";

const KNOWN = {
  epoch: "e",
  network: "a.b.c",
  state: { ...emptyState("example.internal"), revision: 7, revoked: new Set(["AB"]), roots: ["PEM"] },
};

async function inFolder(run: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await run(join(folder, "cache"));
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

function open(folder: string): Promise<SnapshotCache> {
  return SnapshotCache.open(folder, { logger: SILENT_LOGGER });
}

Deno.test("an altered, torn or foreign file counts as none", () =>
  inFolder(async (folder) => {
    await using cache = await open(folder);
    cache.save(KNOWN);
    await cache.flush();
    const path = join(folder, "network.json");
    const good = await Deno.readTextFile(path);
    await fc.assert(
      fc.asyncProperty(fc.nat(good.length - 2), async (length) => {
        await Deno.writeTextFile(path, good.slice(0, length));
        assert.equal(await cache.load(), undefined);
      }),
      { numRuns: 30 },
    );
    for (
      const text of ["", "null", "[]", "{}", '{"format":2}', good.replace('"revision":7', '"revision":-7')]
    ) {
      await Deno.writeTextFile(path, text);
      assert.equal(await cache.load(), undefined, text.slice(0, 40));
    }
  }));

Deno.test("a view whose file is torn, or stands under another name, is dropped alone", () =>
  inFolder(async (folder) => {
    await using cache = await open(folder);
    cache.save(KNOWN);
    cache.saveViews(["a", "b", "c"].map((name) => ({ identity: `spiffe://d/agent/${name}`, jws: name })));
    await cache.flush();
    const views = join(folder, "views");
    const [first, second] = [...Deno.readDirSync(views)].map(({ name }) => join(views, name));
    await Deno.truncate(first!, 5);
    await Deno.rename(second!, join(views, "0".repeat(64) + ".json"));
    await Deno.writeTextFile(join(views, "x.tmp"), "half");
    assert.equal((await cache.load())!.views.size, 1);
    assert.deepEqual([...Deno.readDirSync(views)].length, 1);
  }));

Deno.test("what was kept is there again, for its owner only", () =>
  inFolder(async (folder) => {
    {
      await using cache = await open(folder);
      assert.equal(await cache.load(), undefined);
      cache.save(KNOWN);
      cache.saveViews([{ identity: "spiffe://d/agent/a", jws: "old" }]);
      cache.saveViews([{ identity: "spiffe://d/agent/a", jws: "new" }]);
      cache.heard(1_700_000_000_000);
    }
    await using cache = await open(folder);
    const views = new Map([["spiffe://d/agent/a", "new"]]);
    assert.deepEqual(await cache.load(), { ...KNOWN, views, heardAt: 1_700_000_000_000 });
    const modes = async (path: string) => (await Deno.stat(path)).mode! & 0o777;
    assert.equal(await modes(join(folder, "network.json")), 0o600);
    for (const { name } of Deno.readDirSync(join(folder, "views"))) {
      assert.equal(await modes(join(folder, "views", name)), 0o600);
    }
  }));
