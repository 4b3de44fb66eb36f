/** The shell scripts parse, and every place that names the Deno we build with names the same one. */

import assert from "node:assert/strict";
import { TARGETS } from "../../src/cli/selfextract/inputs.ts";

const ROOT = new URL("../..", import.meta.url).pathname;
const TEST_COMMAND = "npx -y deno@2.9.5 task test";

for (const script of ["compile.sh", ".ci/run"]) {
  Deno.test(`${script} is executable and parses`, async () => {
    assert.equal((Deno.statSync(ROOT + script).mode ?? 0) & 0o111, 0o111);
    const { success, stderr } = await new Deno.Command("bash", { args: ["-n", ROOT + script] }).output();
    assert.ok(success, new TextDecoder().decode(stderr));
  });
}

Deno.test(".ci/run ends with the README's own test command", () => {
  assert.ok(read("README.md").includes(TEST_COMMAND));
  const called = read(".ci/run").split("\n").filter((line) =>
    line.includes("deno@") && line.includes("task")
  );
  assert.deepEqual(called.map((line) => line.includes(` ${TEST_COMMAND} `)), [true]);
});

Deno.test("one version of Deno is named everywhere", () => {
  const versions = ["README.md", ".ci/run", "compile.sh", "Dockerfile"].flatMap((path) =>
    [...read(path).matchAll(/(?:deno@|^VERSION=)(\d+\.\d+\.\d+)/gm)].map((match) => match[1])
  );
  assert.ok(versions.length >= 3);
  for (const version of [...versions, ...TARGETS.map(({ runtime }) => runtime.version)]) {
    assert.equal(version, "2.9.5");
  }
});

function read(path: string): string {
  return Deno.readTextFileSync(ROOT + path);
}
