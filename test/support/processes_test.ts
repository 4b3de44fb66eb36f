/** Tests of the process helper that other tests rely on. */

import assert from "node:assert/strict";
import { ManagedProcess, runCommand } from "./processes.ts";

const SLEEPER = ["sh", "-c", "echo ready 42; echo oops >&2; exec sleep 600"];

Deno.test("ManagedProcess.waitForLine() finds past and future lines of both outputs", async () => {
  await using process = ManagedProcess.spawn(SLEEPER);
  const [, number] = await process.waitForLine(/^ready (\d+)$/);
  assert.equal(number, "42");
  await process.waitForLine(/^oops$/);
  assert.equal((await process.waitForLine(/^ready/))[0], "ready");
});

Deno.test("ManagedProcess.waitForLine() rejects with the output when the process ends first", async () => {
  await using process = ManagedProcess.spawn(["sh", "-c", "echo no config; exit 3"]);
  await assert.rejects(process.waitForLine(/^ready$/), /ended before printing[\s\S]*no config/);
  assert.equal((await process.ended).code, 3);
});

Deno.test("ManagedProcess.waitForLine() rejects when time runs out", async () => {
  await using process = ManagedProcess.spawn(SLEEPER);
  await assert.rejects(
    process.waitForLine(/^never$/, { timeoutMs: 30 }),
    /printed no .*never.* within 30 ms/,
  );
});

Deno.test("ManagedProcess.stop() escalates to SIGKILL, and does not wait for grandchildren", async () => {
  const process = ManagedProcess.spawn([
    "sh",
    "-c",
    "trap '' TERM; echo ready; while :; do sleep 5; done",
  ]);
  await process.waitForLine(/^ready$/);
  const status = await process.stop({ graceMs: 50 });
  assert.equal(status.signal, "SIGKILL");
  assert.equal(process.running, false);
});

Deno.test("ManagedProcess.usage() reads CPU time and memory", async () => {
  await using process = ManagedProcess.spawn([
    "sh",
    "-c",
    "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; echo done; exec sleep 600",
  ]);
  await process.waitForLine(/^done$/, { timeoutMs: 60_000 });
  const { cpuSeconds, rssBytes, peakRssBytes } = process.usage();
  assert.ok(cpuSeconds > 0.01 && cpuSeconds < 60, `${cpuSeconds} s`);
  assert.ok(rssBytes > 100_000 && peakRssBytes >= rssBytes);
});

Deno.test("runCommand() returns the output, and throws with it on failure", async () => {
  assert.equal(await runCommand(["cat"], { stdin: "hello" }), "hello");
  await assert.rejects(runCommand(["sh", "-c", "echo broken >&2; exit 4"]), /exited with 4: broken/);
});
