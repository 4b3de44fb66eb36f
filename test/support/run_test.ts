/** The test runner: what it makes of `deno test`'s output, and that no process can fail unseen. */

import assert from "node:assert/strict";
import { closingLine, judgeSkips, planShards, readOutput } from "../run.ts";

const RUNNER = new URL("../run.ts", import.meta.url).pathname;

Deno.test("planShards() gives a folder a process, and a file its own where the folder starts programs", () => {
  const shards = planShards([
    "test/wire/qpack/b_test.ts",
    "test/wire/a_test.ts",
    "test/io/a_test.ts",
    "test/io/tcp/b/c_test.ts",
    "test/e2e/slow_clients_test.ts",
    "test/interop/x_test.ts",
    "test/e2e/tunnel_x_test.ts",
    "test/packaging/x_test.ts",
  ]);
  assert.deepEqual(shards, [
    { name: "test/packaging/x_test.ts", files: ["test/packaging/x_test.ts"], alone: false },
    { name: "test/wire", files: ["test/wire/a_test.ts", "test/wire/qpack/b_test.ts"], alone: false },
    { name: "test/io/tcp", files: ["test/io/tcp/b/c_test.ts"], alone: false },
    { name: "test/io", files: ["test/io/a_test.ts"], alone: false },
    { name: "test/interop/x_test.ts", files: ["test/interop/x_test.ts"], alone: false },
    { name: "test/e2e/tunnel_x_test.ts", files: ["test/e2e/tunnel_x_test.ts"], alone: false },
    { name: "test/e2e/slow_clients_test.ts", files: ["test/e2e/slow_clients_test.ts"], alone: true },
  ]);
});

Deno.test("readOutput() counts the last summary and names skipped tests", () => {
  const output =
    "ok | 9 passed | 0 failed (1ms)\na (needs curl: get it) ... ignored (0ms)\n  step ... ignored (0ms)\n" +
    "FAILED | 3 passed (2 steps) | 2 failed (1 step) | 1 ignored (202ms)\n";
  assert.deepEqual(readOutput(output, 1), { passed: 3, failed: 2, skipped: ["a (needs curl: get it)"] });
});

Deno.test("readOutput() counts a process without a summary as failed", () => {
  assert.deepEqual(readOutput("good ... ok (1ms)\n", 137), { passed: 0, failed: 1, skipped: [] });
});

Deno.test("readOutput() counts a bad exit code behind a clean summary as failed", () => {
  assert.equal(readOutput("ok | 3 passed | 0 failed (2ms)\n", 1).failed, 1);
});

Deno.test("judgeSkips() fails skipped tests only where nothing may be missing", () => {
  const total = { passed: 2, failed: 1, skipped: ["x"] };
  assert.equal(closingLine(judgeSkips(total, { strict: false })), "2 passed, 1 failed, 1 skipped");
  assert.equal(closingLine(judgeSkips(total, { strict: true })), "2 passed, 2 failed");
});

Deno.test("the runner survives a test that kills its process, and says so", async () => {
  await using folder = await planted({
    "bad_test.ts": `Deno.test("dies", () => Deno.kill(Deno.pid, "SIGKILL"));`,
  });
  const { code, lines } = await run([folder.path]);
  assert.equal(lines.at(-1), "0 passed, 1 failed");
  assert.match(lines.join("\n"), /ended by SIGKILL/);
  assert.equal(code, 1);
});

Deno.test("the runner lists a skipped test, and fails for it in CI as root", async () => {
  await using folder = await planted({
    "tool_test.ts": `import { needsTool, testNeeding } from "${new URL("require_tool.ts", import.meta.url)}";
      Deno.test("runs", () => {});
      testNeeding([needsTool("no-such-tool", { install: "get it" })], "needs one", () => {});`,
  });
  const lenient = await run([folder.path], { CI: "" });
  assert.match(lenient.lines.join("\n"), /^ {2}needs one \(needs no-such-tool: get it\)$/m);
  assert.equal(lenient.lines.at(-1), "1 passed, 0 failed, 1 skipped");
  assert.equal(lenient.code, 0);
  if (Deno.uid() !== 0) return;
  const strict = await run([folder.path], { CI: "true" });
  assert.equal(strict.lines.at(-1), "1 passed, 1 failed");
  assert.equal(strict.code, 1);
});

Deno.test("the runner fails when there is nothing to run, or no such path", async () => {
  await using folder = await planted({});
  assert.equal((await run([folder.path])).code, 1);
  const missing = await run([`${folder.path}/absent`]);
  assert.match(missing.errors, /No such test file or folder/);
  assert.equal(missing.code, 2);
});

async function planted(files: Record<string, string>): Promise<AsyncDisposable & { readonly path: string }> {
  const path = await Deno.makeTempDir();
  for (const [name, text] of Object.entries(files)) await Deno.writeTextFile(`${path}/${name}`, text);
  return { path, [Symbol.asyncDispose]: () => Deno.remove(path, { recursive: true }) };
}

async function run(args: readonly string[], env: Record<string, string> = {}) {
  const output = await new Deno.Command(Deno.execPath(), {
    args: ["run", "--allow-all", RUNNER, ...args],
    env,
  })
    .output();
  const text = new TextDecoder();
  return {
    code: output.code,
    lines: text.decode(output.stdout).trimEnd().split("\n"),
    errors: text.decode(output.stderr),
  };
}
