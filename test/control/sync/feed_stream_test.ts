/** A follower that does not read costs a bounded amount and misses nothing that still matters. */

import assert from "node:assert/strict";
import { emptyState } from "../../../src/core/network/apply.ts";
import type { NetworkChange } from "../../../src/core/network/changes.ts";
import type { SyncEvent } from "../../../src/control/sync/events.ts";
import { FeedStream } from "../../../src/control/sync/feed_stream.ts";

function streamOf(revision = 1): FeedStream {
  const state = { ...emptyState("d"), revision };
  return new FeedStream({ position: () => ({ epoch: "e", revision }), state: () => state });
}

/** Everything that waits. */
async function drain(stream: FeedStream): Promise<SyncEvent[]> {
  const events: SyncEvent[] = [];
  stream.heartbeat(0);
  for await (const event of stream) {
    if (event.type === "heartbeat") break;
    events.push(event);
  }
  return events;
}

function change(id: string, disabled = false): NetworkChange {
  const spec = {
    type: "agent",
    spiffeId: `spiffe://d/agent/${id}`,
    roleAttributes: [],
    derivedAttributes: [],
  } as const;
  return { kind: "identity", id, value: { name: id, spec: { ...spec, disabled, address: null } } };
}

Deno.test("differences are merged: of several for one thing the last counts", async () => {
  const stream = streamOf();
  for (let round = 0; round < 10_000; round++) {
    stream.change([change("a", round % 2 === 0), { kind: "roots", roots: [`${round}`] }]);
  }
  stream.change([change("b")]);
  assert.deepEqual(await drain(stream), [{
    type: "changes",
    revision: 1,
    changes: [change("a", false), { kind: "roots", roots: ["9999"] }, change("b")],
  }]);
});

Deno.test("too many differences become one snapshot", async () => {
  const stream = streamOf();
  for (let i = 0; i < 10_000; i++) stream.change([change(`${i}`)]);
  assert.deepEqual((await drain(stream)).map(({ type }) => type), ["snapshot"]);
});

Deno.test("what a relay enforces comes before what it passes on; of views only the newest", async () => {
  const stream = streamOf();
  stream.network("n1");
  stream.network("n2");
  stream.views([{ identity: "a", jws: "1" }, { identity: "b", jws: "1" }, { identity: "c", jws: "1" }]);
  stream.views([{ identity: "a", jws: "2" }]);
  stream.dropView("c");
  stream.release("x");
  stream.release("x");
  stream.end("s");
  stream.change([]);
  assert.deepEqual(await drain(stream), [
    { type: "changes", revision: 1, changes: [] },
    { type: "released", identity: "x" },
    { type: "ended", session: "s" },
    { type: "network", jws: "n2" },
    { type: "views", views: [{ identity: "a", jws: "2" }, { identity: "b", jws: "1" }] },
  ]);
});

Deno.test("many or large views come in several events", async () => {
  const stream = streamOf();
  const large = "x".repeat(3 << 20);
  stream.views(["a", "b", "c"].map((identity) => ({ identity, jws: large })));
  stream.views(Array.from({ length: 100 }, (_, i) => ({ identity: `${i}`, jws: "s" })));
  const sizes = (await drain(stream)).map((event) => event.type === "views" ? event.views.length : 0);
  assert.deepEqual(sizes, [2, 64, 37]);
});

Deno.test("a closed stream ends, also for one who waits", async () => {
  const stream = streamOf();
  const events = stream[Symbol.asyncIterator]();
  const waiting = events.next();
  stream.close();
  assert.deepEqual(await waiting, { done: true, value: undefined });
});
