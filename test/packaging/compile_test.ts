/**
 * The files that `compile.sh` makes, as a user has them: one file, an empty folder, no Deno, nothing on PATH.
 */

import assert from "node:assert/strict";
import { VERSION } from "../../src/base/version.ts";
import { needsTool, testNeeding } from "../support/require_tool.ts";
import { build, emptyFolder, NATIVE, startBare } from "./compiled_file.ts";

const TOOLS = [needsTool("npm"), needsTool("gcc")];
const QEMU = needsTool("qemu-aarch64-static");
const FOREIGN = NATIVE === "aarch64" ? TOOLS : [...TOOLS, needsTool("aarch64-linux-gnu-gcc"), QEMU];

const native = () => build({ arch: NATIVE, entry: "main.ts", pack: "auto" });
const arm = () => build({ arch: "aarch64", entry: "main.ts", pack: "auto" });

testNeeding(TOOLS, "the compiled file prints its version from an empty folder", async () => {
  await using home = await emptyFolder();
  const { code, stdout, stderr } = await startBare([await native(), "version"], {
    folder: home.path,
    env: { HOME: home.path },
  });
  assert.deepEqual([code, stdout, stderr], [0, `ginnel ${VERSION}\n`, ""]);
});

testNeeding(
  TOOLS,
  "the compiled file makes a CA and issues an identity, keys readable by their owner alone",
  async () => {
    await using home = await emptyFolder();
    const options = { folder: home.path, env: { HOME: home.path } };
    const file = await native();
    const init = await startBare([file, "ca", "init", "--trust-domain", "example.test"], options);
    assert.equal(init.code, 0, init.stderr);
    const issue = await startBare([file, "ca", "issue", "agent", "laptop", "-o", "laptop.json"], options);
    assert.equal(issue.code, 0, issue.stderr);
    for (const secret of ["ca/ca.key", "ca/authority.key", "laptop.json"]) {
      assert.equal(((await Deno.stat(`${home.path}/${secret}`)).mode ?? 0) & 0o777, 0o600, secret);
    }
    assert.equal(
      JSON.parse(await Deno.readTextFile(`${home.path}/laptop.json`)).id,
      "spiffe://example.test/agent/laptop",
    );
  },
);

testNeeding(
  TOOLS,
  "the compiled file answers --help everywhere, and a wrong word with one line and exit code 2",
  async () => {
    await using home = await emptyFolder();
    const options = { folder: home.path, env: { HOME: home.path } };
    const file = await native();
    for (const words of [["--help"], ["run", "--help"], ["ca", "init", "--help"], ["check", "--help"]]) {
      const { code, stdout } = await startBare([file, ...words], options);
      assert.equal(code, 0, words.join(" "));
      assert.match(stdout, /Usage: ginnel/);
    }
    for (const words of [["runn"], ["version", "--nope"], ["check", "--config", "absent.json"]]) {
      const { code, stdout, stderr } = await startBare([file, ...words], options);
      const said = stdout + stderr;
      assert.deepEqual([code, said.trimEnd().split("\n").length], [2, 1], said);
    }
  },
);

testNeeding(FOREIGN, "the arm64 file runs on arm64", async () => {
  await using home = await emptyFolder();
  const emulator = NATIVE === "aarch64" ? [] : [QEMU.path, "-L", "/usr/aarch64-linux-gnu"];
  const options = { folder: home.path, env: { HOME: home.path } };
  const version = await startBare([...emulator, await arm(), "version", "--json"], options);
  assert.equal(JSON.parse(version.stdout).platform, "linux-aarch64", version.stderr);
  const init = await startBare(
    [...emulator, await arm(), "ca", "init", "--trust-domain", "example.test"],
    options,
  );
  assert.equal(init.code, 0, init.stderr);
  assert.match(await Deno.readTextFile(`${home.path}/ca/ca.crt`), /^-----BEGIN CERTIFICATE-----/);
});
