import assert from "node:assert/strict";
import { race, type RaceOptions } from "../../src/base/race.ts";

const NEVER = new AbortController().signal;

/** Attempts that a test settles by hand. */
class Track {
  readonly started: string[] = [];
  readonly slow: string[] = [];
  readonly discarded: string[] = [];
  readonly signals = new Map<string, AbortSignal>();
  readonly #attempts = new Map<string, PromiseWithResolvers<string>>();

  at(subject: string): PromiseWithResolvers<string> {
    let attempt = this.#attempts.get(subject);
    if (attempt === undefined) {
      this.#attempts.set(subject, attempt = Promise.withResolvers<string>());
      // It may fail before the race comes to it.
      attempt.promise.catch(() => {});
    }
    return attempt;
  }

  run(options: Partial<RaceOptions<string, string>> = {}): Promise<string> {
    return race(["a", "b", "c"], {
      signal: NEVER,
      headStart: () => 0,
      attempt: (subject, signal) => {
        this.started.push(subject);
        this.signals.set(subject, signal);
        return this.at(subject).promise;
      },
      discard: (late) => void this.discarded.push(late),
      onSlow: (subject) => void this.slow.push(subject),
      ...options,
    });
  }
}

Deno.test("race() never gives out two successes: what comes late is discarded", async () => {
  const track = new Track();
  const won = track.run();
  for (const subject of ["a", "b", "c"]) track.at(subject).resolve(subject);
  assert.equal(await won, "a");
  await Promise.resolve();
  assert.deepEqual(track.discarded, track.started.filter((subject) => subject !== "a"));
});

Deno.test("race() starts no further attempt within the head start of one that succeeds", async () => {
  const track = new Track();
  track.at("a").resolve("a");
  assert.equal(await track.run({ headStart: () => 10_000 }), "a");
  assert.deepEqual([track.started, track.slow], [["a"], []]);
});

Deno.test("race() goes on at once when an attempt fails", async () => {
  const track = new Track();
  track.at("a").reject(new Error("down"));
  track.at("b").resolve("b");
  assert.equal(await track.run({ headStart: () => 10_000 }), "b");
  assert.deepEqual([track.started, track.slow], [["a", "b"], []]);
});

Deno.test("race() goes on beside a slow attempt, says so, and calls it off when another wins", async () => {
  const track = new Track();
  track.at("b").resolve("b");
  assert.equal(await track.run({ headStart: (subject) => subject === "a" ? 1 : 10_000 }), "b");
  assert.deepEqual([track.slow, track.signals.get("a")!.aborted], [["a"], true]);
  track.at("a").resolve("a");
  await track.at("a").promise;
  await Promise.resolve();
  assert.deepEqual(track.discarded, ["a"]);
});

Deno.test("race() lets a slow attempt win after all", async () => {
  const track = new Track();
  const won = track.run();
  track.at("b").reject(new Error("down"));
  track.at("c").reject(new Error("down"));
  track.at("a").resolve("a");
  assert.equal(await won, "a");
});

Deno.test("race() ends for all at a final error", async () => {
  const track = new Track();
  const denied = new Error("denied");
  const won = track.run({ isFinal: (error) => error === denied });
  track.at("a").reject(denied);
  await assert.rejects(won, denied);
  assert.ok([...track.signals.values()].every(({ aborted }) => aborted));
});

Deno.test("race() rejects with every error in order when all fail", async () => {
  const track = new Track();
  for (const subject of ["c", "b", "a"]) track.at(subject).reject(new Error(subject));
  const error = await track.run().catch((error) => error);
  assert.ok(error instanceof AggregateError);
  assert.deepEqual(error.errors.map(({ message }) => message), ["a", "b", "c"]);
});

Deno.test("race() rejects with the signal's reason, calls all off, and discards what succeeds after", async () => {
  const track = new Track();
  const ending = new AbortController();
  const won = track.run({ signal: ending.signal, headStart: () => 10_000 });
  const reason = new Error("stopped");
  ending.abort(reason);
  await assert.rejects(won, reason);
  assert.equal(track.signals.get("a")!.reason, reason);
  track.at("a").resolve("a");
  await track.at("a").promise;
  await Promise.resolve();
  assert.deepEqual([track.discarded, track.started], [["a"], ["a"]]);
});
