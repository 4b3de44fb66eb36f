/** Checks say how often, how long and what for in OpenZiti's words, within bounds. */

import assert from "node:assert/strict";
import { httpCheckSchema, portCheckSchema, readDuration } from "../../../src/core/service/host_checks.ts";

const TIMES = { interval: "5s", timeout: "1s" };

Deno.test("a check needs an address or URL, an interval and a timeout", () => {
  assert.ok(portCheckSchema.safeParse({ address: "localhost:80", ...TIMES }).success);
  assert.ok(httpCheckSchema.safeParse({ url: "https://localhost/health", ...TIMES }).success);
  for (
    const check of [
      TIMES,
      { address: "localhost:80" },
      { address: "localhost:80", ...TIMES, interval: "999ms" },
      { address: "localhost:80", ...TIMES, interval: "61m" },
      { address: "localhost:80", ...TIMES, timeout: "99ms" },
      { address: "localhost:80", ...TIMES, unknown: 1 },
    ]
  ) assert.ok(!portCheckSchema.safeParse(check).success, JSON.stringify(check));
});

Deno.test("an action is one of four, and waits for a number or a time", () => {
  const actions = ["mark healthy", "mark unhealthy", "increase cost 0", "decrease cost 65535"];
  const read = (action: object) =>
    portCheckSchema.safeParse({ address: "a:1", ...TIMES, actions: [{ trigger: "fail", ...action }] })
      .success;
  for (const action of actions) assert.ok(read({ action, consecutiveEvents: 2, duration: "0s" }), action);
  for (
    const action of ["", "mark", "increase cost", "increase cost -1", "increase cost 05", "mark healthy "]
  ) {
    assert.ok(!read({ action }), action);
  }
  for (const more of [{ trigger: "change" }, { consecutiveEvents: 0 }, { duration: "25h" }]) {
    assert.ok(!read({ action: actions[0], ...more }), JSON.stringify(more));
  }
});

Deno.test("readDuration() reads what OpenZiti writes, and nothing else", () => {
  for (const [text, ms] of [["500ms", 500], ["5s", 5_000], ["1m30s", 90_000], ["1h", 3_600_000]] as const) {
    assert.equal(readDuration(text), ms);
  }
  for (const text of ["", "5", "s", "-5s", "5 s", "1.5s", "5d", "1s1"]) {
    assert.equal(readDuration(text), undefined, text);
  }
});
