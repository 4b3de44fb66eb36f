/** When flows of datagrams are idle, and what is told of those that are not. */

import assert from "node:assert/strict";
import { DataplaneError } from "../../../src/dataplane/errors.ts";
import { DatagramWatch } from "../../../src/modes/agent/datagram_watch.ts";

/** One flow under watch, and what became of it. */
class Watching implements Disposable {
  readonly counters = { sent: 0, received: 0 };
  readonly told: string[] = [];
  now = 1_000;
  readonly watch = new DatagramWatch({ now: () => this.now });
  readonly leave: () => void;

  constructor(idleTimeout: number) {
    this.leave = this.watch.enter(this, {
      idleTimeout,
      signs: { spoke: () => void this.told.push("spoke"), heard: () => void this.told.push("heard") },
    });
  }

  fail(error: Error): void {
    assert.ok(error instanceof DataplaneError);
    this.told.push(error.code);
  }

  look(now: number): void {
    this.now = now;
    this.watch.look();
  }

  [Symbol.dispose](): void {
    this.watch.close();
  }
}

Deno.test("a flow that carries nothing ends after its time-out, not before", () => {
  using flow = new Watching(5_000);
  flow.look(5_999);
  assert.deepEqual(flow.told, []);
  flow.look(6_000);
  assert.deepEqual(flow.told, ["ERR_FLOW_IDLE"]);
});

Deno.test("a datagram in either direction keeps the flow", () => {
  using flow = new Watching(5_000);
  flow.counters.sent++;
  flow.look(4_000);
  flow.look(8_999);
  flow.counters.received++;
  flow.look(9_000);
  flow.look(13_999);
  assert.deepEqual(flow.told, ["spoke", "heard"]);
  flow.look(14_000);
  assert.deepEqual(flow.told, ["spoke", "heard", "ERR_FLOW_IDLE"]);
});

Deno.test("what came tells of the relay even when more was sent", () => {
  using flow = new Watching(5_000);
  flow.counters.sent += 3;
  flow.counters.received++;
  flow.look(1_500);
  assert.deepEqual(flow.told, ["heard"]);
});

Deno.test("a flow that has ended is not looked at", () => {
  using flow = new Watching(5_000);
  flow.leave();
  flow.leave();
  flow.look(60_000);
  assert.deepEqual(flow.told, []);
});
