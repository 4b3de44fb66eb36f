import assert from "node:assert/strict";
import { withDeadline, withSignal } from "../../../src/base/async.ts";
import { WakeableDial, WakeablePause } from "../../../src/modes/shared/wakeable_dial.ts";
import { eventually } from "../../support/eventually.ts";

Deno.test("who waits has another dial begun beside one that hangs, a second later; the late one is let go of", async () => {
  const dials: { readonly at: number; readonly answer: PromiseWithResolvers<string> }[] = [];
  const discarded: string[] = [];
  const dial = new WakeableDial<string>({
    dial: () => {
      const answer = Promise.withResolvers<string>();
      dials.push({ at: performance.now(), answer });
      return answer.promise;
    },
    discard: (late) => discarded.push(late),
    signal: new AbortController().signal,
  });
  // However often it is said.
  for (let i = 0; i < 100; i++) dial.wake();
  await eventually(() => dials.length === 2);
  assert.ok(dials[1]!.at - dials[0]!.at > 900);
  dials[1]!.answer.resolve("second");
  assert.equal(await dial.result, "second");
  dials[0]!.answer.resolve("first");
  await eventually(() => discarded.length > 0);
  assert.deepEqual(discarded, ["first"]);
  dial.wake();
  assert.equal(dials.length, 2);
});

Deno.test("it fails with the last of its dials, and with the signal", async () => {
  const answers = [Promise.withResolvers<string>(), Promise.withResolvers<string>()];
  let begun = 0;
  const options = { discard: () => {}, signal: new AbortController().signal };
  const dial = new WakeableDial<string>({ ...options, dial: () => answers[begun++]!.promise });
  dial.wake();
  await eventually(() => begun === 2);
  answers[0]!.reject(new Error("first"));
  let isOver = false;
  dial.result.catch(() => isOver = true);
  await Promise.allSettled([answers[0]!.promise]);
  assert.ok(!isOver);
  answers[1]!.reject(new Error("second"));
  await assert.rejects(dial.result, /second/);

  const stop = new AbortController();
  const stopped = new WakeableDial<string>({
    ...options,
    signal: stop.signal,
    dial: (signal) => withSignal(new Promise<string>(() => {}), signal),
  });
  stop.abort(new Error("stopped"));
  await assert.rejects(stopped.result, /stopped/);
});

Deno.test("a pause ends when somebody waits, though not at once", async () => {
  const stop = new AbortController();
  const began = performance.now();
  const pause = new WakeablePause(60_000, stop.signal);
  pause.wake();
  await withDeadline(5_000, () => pause.over);
  assert.ok(performance.now() - began >= 490);
  const other = new WakeablePause(60_000, stop.signal);
  stop.abort();
  await withDeadline(5_000, () => other.over);
});
