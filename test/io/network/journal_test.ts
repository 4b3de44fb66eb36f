import assert from "node:assert/strict";
import { SILENT_LOGGER } from "../../../src/base/log.ts";
import { NetworkJournal } from "../../../src/io/network/journal.ts";
import { findStateDirectory } from "../../../src/io/network/state_directory.ts";
import { fakeFiles, listeningLogger, scratch } from "./fakes.ts";
import { TUNNEL } from "./values.ts";

const files = fakeFiles({});

Deno.test("a journal keeps what its owner did not undo, and nothing when that was everything", async () => {
  await using folder = await scratch();
  const options = { logger: SILENT_LOGGER, directory: folder.path, files };
  {
    await using journal = await NetworkJournal.open(TUNNEL, options);
    await journal.update({ pins: ["192.0.2.5"], killSwitch: true });
    await journal.update({ pins: undefined });
  }
  await using journal = await NetworkJournal.open(TUNNEL, options);
  assert.deepEqual(journal.data, { killSwitch: true });
  await journal.update({ killSwitch: undefined });
  await journal[Symbol.asyncDispose]();
  assert.deepEqual([...Deno.readDirSync(folder.path)], []);
});

Deno.test("a journal has one owner at a time; another interface's is another journal", async () => {
  await using folder = await scratch();
  const options = { logger: SILENT_LOGGER, directory: folder.path, files };
  await using journal = await NetworkJournal.open(TUNNEL, options);
  await assert.rejects(NetworkJournal.open(TUNNEL, options), { code: "ERR_NETWORK_IN_USE" });
  await using other = await NetworkJournal.open("ginnel8", options);
  assert.equal(await journal.isOwnedByOther(other.lockFile), true);
  assert.equal(await journal.isOwnedByOther(journal.lockFile), false);
  await other[Symbol.asyncDispose]();
  assert.equal(await journal.isOwnedByOther(other.lockFile), false);
  assert.equal(await journal.isOwnedByOther("/etc/passwd"), false, "no lock of ours");
});

Deno.test("equal names in two network namespaces do not meet", async () => {
  await using folder = await scratch();
  const options = { logger: SILENT_LOGGER, directory: folder.path };
  await using _one = await NetworkJournal.open(TUNNEL, { ...options, files });
  const elsewhere = { ...files, readLink: () => "net:[2]" };
  await using _two = await NetworkJournal.open(TUNNEL, { ...options, files: elsewhere });
});

Deno.test("a journal that cannot be read is told of and counts as empty", async () => {
  await using folder = await scratch();
  await Deno.writeTextFile(`${folder.path}/network-1-${TUNNEL}.json`, `{"pins":["x"]}`);
  const { logger, events } = listeningLogger();
  await using journal = await NetworkJournal.open(TUNNEL, { logger, directory: folder.path, files });
  assert.deepEqual(journal.data, {});
  assert.deepEqual(events, ["network_journal_unreadable"]);
});

Deno.test("findStateDirectory() takes no folder that others may write to, or may point elsewhere", async () => {
  await using folder = await scratch();
  const given = `${folder.path}/given`;
  assert.equal(await findStateDirectory({ RUNTIME_DIRECTORY: `${given}:/elsewhere` }), given);
  assert.equal((await Deno.stat(given)).mode! & 0o777, 0o700);
  await Deno.chmod(given, 0o777);
  assert.notEqual(await findStateDirectory({ RUNTIME_DIRECTORY: given }), given);
  const link = `${folder.path}/link`;
  await Deno.mkdir(`${folder.path}/target`, { mode: 0o700 });
  await Deno.symlink(`${folder.path}/target`, link);
  assert.notEqual(await findStateDirectory({ RUNTIME_DIRECTORY: link }), link);
  assert.notEqual(await findStateDirectory({ RUNTIME_DIRECTORY: "relative" }), "relative");
});
