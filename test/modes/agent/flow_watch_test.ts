import assert from "node:assert/strict";
import { FlowWatch } from "../../../src/modes/agent/flow_watch.ts";
import { eventually } from "../../support/eventually.ts";

/** A watch over relays that are names. Looks come every 500 ms. */
class Watching implements Disposable {
  readonly silent: string[] = [];
  readonly watch = new FlowWatch<string>({ onSilent: (relay) => this.silent.push(relay) });

  [Symbol.dispose](): void {
    this.watch.close();
  }
}

Deno.test("a relay is silent when something was sent and nothing has come back, not when nothing was sent", async () => {
  using watching = new Watching();
  const { watch, silent } = watching;
  watch.enter("idle");
  watch.enter("answering").heard();
  const answered = watch.enter("answering");
  answered.spoke();
  answered.heard();
  // What was sent in the same moment in which something came is not forgotten.
  const flow = watch.enter("dead");
  flow.heard();
  flow.spoke();
  await eventually(() => silent.length > 0);
  assert.deepEqual(silent, ["dead"]);
});

Deno.test("another flow's bytes show that the relay of a waiting one is there", async () => {
  using watching = new Watching();
  const { watch, silent } = watching;
  watch.enter("relay").spoke();
  const other = watch.enter("relay");
  watch.enter("dead").spoke();
  await eventually(() => {
    other.heard();
    return silent.length === 2;
  });
  assert.deepEqual(silent, ["dead", "dead"]);
});

Deno.test("flows that have ended are not waited for, and the last one ends the watch", async () => {
  using watching = new Watching();
  const { watch, silent } = watching;
  const ended = watch.enter("ended");
  ended.spoke();
  ended.leave();
  const left = watch.enter("left");
  const stays = watch.enter("left");
  left.spoke();
  stays.spoke();
  left.leave();
  left.leave();
  await eventually(() => silent.length > 0);
  assert.deepEqual(silent, ["left"]);
  // Else the test would leak a timer.
  stays.leave();
});
