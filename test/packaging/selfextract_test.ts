/**
 * The self-extracting file on a bare machine: where it unpacks, what it refuses, and what it passes on. A probe
 * program stands in for the product.
 */

import assert from "node:assert/strict";
import { needsRoot, needsTool, testNeeding } from "../support/require_tool.ts";
import { build, emptyFolder, NATIVE, startBare } from "./compiled_file.ts";

const COMPILER = [needsTool("npm"), needsTool("gcc")];
const probe = () => build({ arch: NATIVE, entry: "test/packaging/probe.ts", pack: "selfextract" });

testNeeding(COMPILER, "a self-extracting file passes arguments and exit codes on", async () => {
  await using home = await emptyFolder();
  const options = { folder: home.path, env: { HOME: home.path } };
  const told = await startBare([await probe(), "tell", "--help", "-A", "", "a b"], options);
  assert.deepEqual(JSON.parse(told.stdout).args, ["--help", "-A", "", "a b"], told.stderr);
  assert.equal((await startBare([await probe(), "exit", "7"], options)).code, 7);
});

testNeeding(
  COMPILER,
  "a self-extracting file has the permissions compile.sh lists and no others",
  async () => {
    await using home = await emptyFolder();
    const told = await startBare([await probe()], { folder: home.path, env: { HOME: home.path } });
    const { permissions, refused } = JSON.parse(told.stdout);
    assert.deepEqual(Object.values(permissions), Array(6).fill("granted"));
    assert.deepEqual(refused, { subprocess: true });
    assert.equal(told.stderr, "");
  },
);

testNeeding(COMPILER, "a self-extracting file is the process that a supervisor signals", async () => {
  await using home = await emptyFolder();
  const child = new Deno.Command(await probe(), {
    args: ["term"],
    clearEnv: true,
    env: { HOME: home.path },
    stdin: "piped",
    stdout: "piped",
  }).spawn();
  const reader = child.stdout.getReader();
  assert.equal(new TextDecoder().decode((await reader.read()).value), "ready\n");
  child.kill("SIGTERM");
  const { code } = await child.status;
  await child.stdin.close();
  await reader.cancel();
  assert.equal(code, 42);
});

testNeeding(COMPILER, "a self-extracting file unpacks once, privately, where XDG or HOME say", async () => {
  await using home = await emptyFolder();
  const first = await startBare([await probe()], { folder: home.path, env: { HOME: home.path } });
  const { runtime } = JSON.parse(first.stdout);
  assert.ok(runtime.startsWith(`${home.path}/.cache/ginnel/`), runtime);
  const before = await Deno.stat(runtime);
  assert.equal((before.mode ?? 0) & 0o777, 0o700);
  assert.equal(((await Deno.stat(`${home.path}/.cache/ginnel`)).mode ?? 0) & 0o777, 0o700);
  await startBare([await probe()], { folder: home.path, env: { HOME: home.path } });
  assert.equal((await Deno.stat(runtime)).ino, before.ino);
  const xdg = `${home.path}/elsewhere`;
  const second = await startBare([await probe()], {
    folder: home.path,
    env: { HOME: home.path, XDG_CACHE_HOME: xdg },
  });
  assert.ok(JSON.parse(second.stdout).runtime.startsWith(`${xdg}/ginnel/`));
});

testNeeding(COMPILER, "several first starts at once all succeed and leave one version", async () => {
  await using home = await emptyFolder();
  const file = await probe();
  const starts = Array.from(
    { length: 4 },
    () => startBare([file], { folder: home.path, env: { HOME: home.path } }),
  );
  for (const { code, stderr } of await Promise.all(starts)) assert.equal(code, 0, stderr);
  assert.equal([...Deno.readDirSync(`${home.path}/.cache/ginnel`)].length, 1);
});

testNeeding(
  COMPILER,
  "a cache that others could write is not used, nor is one behind such a folder",
  async () => {
    for (const spoil of ["", "/.cache", "/.cache/ginnel"]) {
      await using home = await emptyFolder();
      await Deno.mkdir(`${home.path}/.cache/ginnel`, { recursive: true });
      await Deno.chmod(`${home.path}/.cache/ginnel`, 0o700);
      await Deno.chmod(`${home.path}${spoil}`, 0o777);
      const told = await startBare([await probe()], { folder: home.path, env: { HOME: home.path } });
      const { runtime } = JSON.parse(told.stdout);
      assert.ok(!runtime.startsWith(home.path), `${spoil}: ${runtime}`);
      assert.deepEqual([...Deno.readDirSync(`${home.path}/.cache/ginnel`)], []);
    }
  },
);

testNeeding([...COMPILER, needsRoot()], "a runtime planted by another user is not started", async () => {
  await using home = await emptyFolder();
  const env = { HOME: home.path };
  const first = JSON.parse((await startBare([await probe()], { folder: home.path, env })).stdout);
  await Deno.writeTextFile(`${first.runtime}.new`, "#!/bin/sh\necho planted\n", { mode: 0o755 });
  await Deno.truncate(`${first.runtime}.new`, (await Deno.stat(first.runtime)).size);
  await Deno.chown(`${first.runtime}.new`, 12345, 12345);
  await Deno.rename(`${first.runtime}.new`, first.runtime);
  const second = await startBare([await probe()], { folder: home.path, env });
  assert.deepEqual(JSON.parse(second.stdout).permissions, first.permissions, second.stderr);
  assert.equal((await Deno.stat(first.runtime)).uid, Deno.uid());
});

testNeeding(COMPILER, "a link in place of the cache is not followed", async () => {
  await using home = await emptyFolder();
  await using target = await emptyFolder();
  await Deno.mkdir(`${home.path}/.cache`);
  await Deno.symlink(target.path, `${home.path}/.cache/ginnel`);
  const told = await startBare([await probe()], { folder: home.path, env: { HOME: home.path } });
  assert.equal(told.code, 0, told.stderr);
  assert.deepEqual([...Deno.readDirSync(target.path)], []);
});

testNeeding(COMPILER, "a version cut short on the disk is made again", async () => {
  await using home = await emptyFolder();
  const env = { HOME: home.path };
  const { runtime } = JSON.parse((await startBare([await probe()], { folder: home.path, env })).stdout);
  await Deno.truncate(runtime, 1000);
  const again = await startBare([await probe()], { folder: home.path, env });
  assert.equal(JSON.parse(again.stdout).runtime, runtime, again.stderr);
});

testNeeding(COMPILER, "versions that nobody starts any more are removed when a new one arrives", async () => {
  await using home = await emptyFolder();
  const cache = `${home.path}/.cache/ginnel`;
  const [old, recent] = ["a".repeat(64), "b".repeat(64)];
  for (const name of [old, recent]) await Deno.mkdir(`${cache}/${name}/state/deep`, { recursive: true });
  await Deno.chmod(cache, 0o700);
  const days = (count: number) => new Date(Date.now() - count * 86_400_000);
  await Deno.utime(`${cache}/${old}`, days(31), days(31));
  await Deno.utime(`${cache}/${recent}`, days(29), days(29));
  await startBare([await probe()], { folder: home.path, env: { HOME: home.path } });
  const left = [...Deno.readDirSync(cache)].map(({ name }) => name);
  assert.equal(left.includes(old), false);
  assert.equal(left.includes(recent), true);
});

testNeeding(
  [...COMPILER, needsRoot()],
  "without any safe place a self-extracting file runs from memory",
  async () => {
    await using home = await emptyFolder();
    const tmp = `/tmp/ginnel-${Deno.uid()}`;
    await using _taken = await takeAway(tmp);
    const told = await startBare([await probe(), "tell", "x"], { folder: home.path, env: { HOME: "/proc" } });
    assert.match(JSON.parse(told.stdout).runtime, /^\/memfd:ginnel/, told.stderr);
    assert.deepEqual(JSON.parse(told.stdout).args, ["x"]);
  },
);

testNeeding(COMPILER, "a damaged or shortened file says so and starts nothing", async () => {
  await using home = await emptyFolder();
  const whole = await Deno.readFile(await probe());
  const damage: Record<string, (bytes: Uint8Array) => Uint8Array> = {
    shortened: (bytes) => bytes.subarray(0, bytes.length - 1),
    halved: (bytes) => bytes.subarray(0, bytes.length >> 1),
    flipped: (bytes) => bytes.with(bytes.length >> 1, (bytes[bytes.length >> 1] ?? 0) ^ 1),
    "count of entries": (bytes) => bytes.with(bytes.length - 16, 200),
    "size of the arguments": (bytes) => bytes.with(bytes.length - 18, 255),
    key: (bytes) => bytes.with(bytes.length - 30, 47),
  };
  for (const [kind, change] of Object.entries(damage)) {
    const path = `${home.path}/damaged`;
    await Deno.writeFile(path, change(whole), { mode: 0o755 });
    const { code, stdout, stderr } = await startBare([path], { folder: home.path, env: { HOME: home.path } });
    assert.deepEqual([code, stdout], [1, ""], kind);
    assert.match(stderr, /^ginnel: .*damaged.*fetch it again\n$/, kind);
  }
});

/** Puts a link where a folder is expected, and what was there back afterwards. */
async function takeAway(path: string): Promise<AsyncDisposable> {
  const aside = `${path}.aside-${Deno.pid}`;
  const was = await Deno.rename(path, aside).then(() => true, () => false);
  await Deno.symlink("/etc", path);
  return {
    async [Symbol.asyncDispose]() {
      await Deno.remove(path);
      if (was) await Deno.rename(aside, path);
    },
  };
}
