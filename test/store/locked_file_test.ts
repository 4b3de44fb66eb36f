import assert from "node:assert/strict";
import { join } from "node:path";
import { holdLock, LockedFile, lookAt, readUnlocked } from "../../src/store/locked_file.ts";

async function freshPath(): Promise<string> {
  return join(await Deno.makeTempDir(), "file");
}

Deno.test("one has the lock at a time; who waited finds the file that took the place of the one it opened", async () => {
  const path = await freshPath();
  const first = await LockedFile.open(path);
  const order: string[] = [];
  const second = LockedFile.open(path).then(async (file) => {
    order.push("second");
    await file.append("second\n");
    file[Symbol.dispose]();
  });
  await first.append("gone\n");
  await first.replace("new\n");
  order.push("first");
  first[Symbol.dispose]();
  await second;
  assert.deepEqual(order, ["first", "second"]);
  assert.equal(await readUnlocked(path), "new\nsecond\n");
});

Deno.test("appends go behind whole lines, sizes follow, and reading starts anywhere", async () => {
  const path = await freshPath();
  await Deno.writeTextFile(path, "torn");
  using file = await LockedFile.open(path);
  assert.equal(file.size, 4);
  await file.append("a\n");
  await file.append("b\n");
  assert.equal(file.size, 9);
  assert.equal(await file.read(), "torn\na\nb\n");
  assert.equal(await file.read(5), "a\nb\n");
  assert.equal(await file.read(99), "");
});

Deno.test("replacing is not hindered by what a crash left, and tells the successor apart", async () => {
  const path = await freshPath();
  await Deno.writeTextFile(`${path}.new`, "left by a crash");
  using file = await LockedFile.open(path);
  const before = await lookAt(path);
  assert.equal(before!.id, file.id);
  const after = await file.replace("x\n");
  assert.deepEqual(await lookAt(path), after);
  assert.notEqual(after.id, before!.id);
  assert.equal(after.size, 2);
  assert.equal((await Deno.stat(path)).mode! & 0o777, 0o600);
  await assert.rejects(Deno.stat(`${path}.new`), Deno.errors.NotFound);
});

Deno.test("a held lock is held until it is given back", async () => {
  const path = await freshPath();
  const held = await holdLock(path);
  assert.equal(await holdLock(path), undefined);
  held![Symbol.dispose]();
  const again = await holdLock(path);
  assert.notEqual(again, undefined);
  again![Symbol.dispose]();
});

Deno.test("nothing is there before somebody writes it", async () => {
  const path = await freshPath();
  assert.equal(await lookAt(path), undefined);
  assert.equal(await readUnlocked(path), "");
  await assert.rejects(readUnlocked("/"), { code: "ERR_LEASES_UNREADABLE" });
});
