/** What checks make of a service's health and cost. */

import assert from "node:assert/strict";
import type { CheckAction } from "../../../src/core/service/host_checks.ts";
import { HostHealth } from "../../../src/core/service/host_health.ts";

/** Records results a second apart, and returns what they made of the service each time. */
function follow(actions: readonly CheckAction[] | undefined, results: string, cost?: number): string {
  const health = new HostHealth([actions], { cost });
  return [...results].map((result, second) => {
    health.record(0, result === "+", second * 1_000);
    return `${health.isHealthy ? "" : "!"}${health.cost}`;
  }).join(" ");
}

Deno.test("a check without actions decides alone", () => {
  assert.equal(follow(undefined, "+-+"), "0 !0 0");
});

Deno.test("an action waits for as many results in a row as it names", () => {
  const actions: CheckAction[] = [
    { trigger: "fail", consecutiveEvents: 3, action: "mark unhealthy" },
    { trigger: "pass", consecutiveEvents: 2, action: "mark healthy" },
  ];
  assert.equal(follow(actions, "--+---+-++"), "0 0 0 0 0 !0 !0 !0 !0 0");
});

Deno.test("an action waits for as long as it names, from the first result on", () => {
  assert.equal(
    follow([{ trigger: "fail", duration: "2s", action: "mark unhealthy" }], "--+---"),
    "0 0 0 0 0 !0",
  );
});

Deno.test("what is marked unhealthy heals by the first pass where no action says how", () => {
  assert.equal(follow([{ trigger: "fail", action: "mark unhealthy" }], "-+"), "!0 0");
});

Deno.test("costs grow and shrink with each result, between their own base and 65535", () => {
  const actions: CheckAction[] = [
    { trigger: "fail", action: "increase cost 100" },
    { trigger: "pass", action: "decrease cost 60" },
  ];
  assert.equal(follow(actions, "--+++-", 10), "110 210 150 90 30 130");
  assert.equal(follow(actions, "-++", 10), "110 50 10");
  assert.equal(follow([{ trigger: "fail", action: "increase cost 60000" }], "--", 10_000), "65535 65535");
});

Deno.test("a service is healthy only while all of its checks are content", () => {
  const health = new HostHealth([undefined, undefined]);
  assert.ok(health.isHealthy);
  health.record(0, false, 0);
  health.record(1, true, 0);
  assert.ok(!health.isHealthy);
  health.record(1, false, 1);
  health.record(0, true, 1);
  assert.ok(!health.isHealthy);
  health.record(1, true, 2);
  assert.ok(health.isHealthy);
});
