import assert from "node:assert/strict";
import { join } from "node:path";
import { caCommand } from "../../src/cli/ca.ts";
import { readCaSet } from "../../src/identity/ca_rollover.ts";
import { Printed } from "./demo_folder.ts";

Deno.test("ca rotate takes the three steps in order and says what comes next", async () => {
  const parent = await Deno.makeTempDir();
  const dir = join(parent, "ca");
  try {
    assert.equal((await run("init", "--trust-domain", "test.internal", "--dir", dir)).code, 0);
    const early = await run("rotate", "activate", "--dir", dir);
    assert.equal(early.code, 1);
    assert.match(early.err, /there is no staged CA. Run first: ginnel ca rotate stage/);
    const staged = await run("rotate", "stage", "--dir", dir, "--days", "30");
    assert.match(staged.out, new RegExp(`Next, .*: ginnel ca rotate activate --dir ${dir}\n$`));
    const { staged: next } = await readCaSet(dir);
    assert.equal((await run("rotate", "activate", "--dir", dir)).code, 0);
    assert.equal((await readCaSet(dir)).issuing, next);
    const retired = await run("rotate", "retire", "--dir", dir, "--json");
    assert.deepEqual(JSON.parse(retired.out), { step: "retire", directory: dir });
    assert.deepEqual((await readCaSet(dir)).previous, []);
  } finally {
    await Deno.remove(parent, { recursive: true });
  }
});

Deno.test("ca rotate refuses other words and explains the steps", async () => {
  for (const args of [[], ["back"], ["stage", "activate"], ["stage", "--days", "0"]]) {
    assert.equal((await run("rotate", ...args, "--dir", "/nonexistent")).code, 2, args.join(" "));
  }
  const { code, out } = await run("rotate", "--help");
  assert.equal(code, 0);
  assert.match(out, /stage .*activate .*retire/s);
});

async function run(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  const io = new Printed();
  const code = await caCommand(args, io);
  return { code, out: io.out, err: io.err };
}
