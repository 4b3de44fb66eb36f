import assert from "node:assert/strict";
import { ManagedProcess, runCommand } from "../../../support/processes.ts";
import { testNeeding } from "../../../support/require_tool.ts";
import { type Ground, NEEDS, onGround } from "../../../io/network/ground.ts";
import { TUNNEL } from "../../../io/network/values.ts";

const BEFORE = "search example.org\nnameserver 127.0.0.80\n";

testNeeding(
  NEEDS,
  "libc finds services by name and all else as before; without a view only the services are gone",
  () =>
    onGround(async (ground) => {
      await using process = await start(ground);
      await process.waitForLine(/^ready file$/);
      assert.deepEqual(await getent(process, "ahostsv4", "web.ginnel.internal"), ["10.101.0.16"]);
      assert.deepEqual(await getent(process, "ahostsv6", "web.ginnel.internal"), ["fd65::10"]);
      const [invented] = await getent(process, "ahostsv4", "any.corp.example");
      assert.match(String(invented), /^10\.101\.(1[2-9]\d|2\d\d)\.\d+$/);
      assert.deepEqual(await getent(process, "ahostsv4", "www.example.com"), ["192.0.2.7"]);
      assert.deepEqual(await getent(process, "ahostsv4", "nowhere.ginnel.internal."), []);
      assert.match(String(await getent(process, "hosts", "10.101.0.16", 1)), /^web\.ginnel\.internal$/);
      Deno.kill(process.pid, "SIGUSR1");
      await process.waitForLine(/^without a view$/);
      assert.deepEqual(await getent(process, "ahostsv4", "web.ginnel.internal"), []);
      assert.deepEqual(await getent(process, "ahostsv4", "any.corp.example"), []);
      assert.deepEqual(await getent(process, "ahostsv4", "www.example.com"), ["192.0.2.7"]);
      Deno.kill(process.pid, "SIGTERM");
      await process.waitForLine(/^closed$/);
      assert.equal(await Deno.readTextFile(ground.resolvConf), BEFORE);
    }),
);

testNeeding(
  NEEDS,
  "a killed agent's resolv.conf is put back by the next start",
  () =>
    onGround(async (ground) => {
      await using process = await start(ground);
      await process.waitForLine(/^ready file$/);
      assert.match(
        await Deno.readTextFile(ground.resolvConf),
        /search example\.org\nnameserver 127\.0\.0\.77\n/,
      );
      await process.stop({ signal: "SIGKILL" });
      await using _network = await ground.open();
      assert.equal(await Deno.readTextFile(ground.resolvConf), BEFORE);
    }),
);

/** Starts the process with a file of the test's as its machine's resolv.conf. */
async function start(ground: Ground): Promise<ManagedProcess> {
  const { directory, resolvConf } = ground;
  await Deno.writeTextFile(resolvConf, BEFORE);
  const child = new URL("./names_here.ts", import.meta.url).pathname;
  const file = await Deno.realPath("/etc/resolv.conf");
  const run = `mount --bind ${resolvConf} ${file} && exec ${Deno.execPath()} run -A ${child}`;
  return ManagedProcess.spawn(
    ground.command(["unshare", "--mount", "sh", "-c", `${run} ${TUNNEL} ${directory} /etc/resolv.conf`]),
  );
}

/** What libc says within the process's namespaces: one column of its answer, each value once; none where it fails. */
async function getent(process: ManagedProcess, database: string, key: string, column = 0): Promise<string[]> {
  const command = ["nsenter", `--target=${process.pid}`, "--mount", "--net", "getent", database, key];
  const text = await runCommand(["sh", "-c", `${command.join(" ")} || true`]);
  const lines = text.split("\n").filter(Boolean);
  return [...new Set(lines.map((line) => line.split(/\s+/)[column]!))];
}
