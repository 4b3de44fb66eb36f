/** Paths with nothing behind them. */

import assert from "node:assert/strict";
import { pathExists, removeIfPresent } from "../../src/base/paths.ts";

Deno.test("pathExists() tells files, folders and dangling links from nothing, and passes other errors on", async () => {
  const folder = await Deno.makeTempDir();
  try {
    await Deno.writeTextFile(`${folder}/file`, "");
    await Deno.symlink(`${folder}/nowhere`, `${folder}/link`);
    for (const path of [folder, `${folder}/file`, `${folder}/link`]) {
      assert.equal(await pathExists(path), true, path);
    }
    assert.equal(await pathExists(`${folder}/nowhere`), false);
    await assert.rejects(pathExists(`${folder}/file/below`), Deno.errors.NotADirectory);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("removeIfPresent() removes a file, is content with none, and passes other errors on", async () => {
  const folder = await Deno.makeTempDir();
  try {
    await Deno.writeTextFile(`${folder}/file`, "");
    await removeIfPresent(`${folder}/file`);
    await removeIfPresent(`${folder}/file`);
    assert.equal(await pathExists(`${folder}/file`), false);
    await Deno.mkdir(`${folder}/full/inner`, { recursive: true });
    await assert.rejects(removeIfPresent(`${folder}/full`));
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
