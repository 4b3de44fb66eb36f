import assert from "node:assert/strict";
import { withSignal } from "../../../src/base/async.ts";
import type { Session } from "../../../src/dataplane/session.ts";
import { type ConnectorPath, ConnectorWatch } from "../../../src/modes/agent/connector_watch.ts";
import type { RelayClient } from "../../../src/modes/shared/relay_client.ts";
import { eventually } from "../../support/eventually.ts";

Deno.test("a connector that answers none of three questions loses its session, and nobody else's", async () => {
  await using ground = new Ground();
  const [silent, other] = [ground.flow({ answers: false }), ground.flow({ answers: true })];
  silent.signs.spoke();
  other.signs.spoke();
  other.signs.heard();
  await eventually(() => silent.ended.length > 0);
  assert.deepEqual([silent.ended, silent.asked()], [["the connector is silent"], 3]);
  assert.deepEqual([other.ended, other.asked()], [[], 0], "who has answered is not even asked");
});

Deno.test("one that answers its relay keeps its flows, however long its upstream takes", async () => {
  await using ground = new Ground();
  const slow = ground.flow({ answers: true });
  slow.signs.spoke();
  await eventually(() => slow.asked() === 2);
  assert.deepEqual(slow.ended, []);
});

Deno.test("where the relay itself was lost meanwhile, nothing is said of the connector", async () => {
  await using ground = new Ground();
  const flow = ground.flow({ answers: false });
  flow.signs.spoke();
  await eventually(() => flow.asked() === 3);
  flow.relay.connection = undefined;
  await eventually(() => flow.settled() === 3);
  assert.deepEqual(flow.ended, []);
});

/** Flows whose connectors answer, or do not. */
class Ground implements AsyncDisposable {
  readonly #paths = new Map<Session, { answers: boolean; asked: number; settled: number }>();
  readonly #watch = new ConnectorWatch(async ({ session }, signal) => {
    const path = this.#paths.get(session)!;
    path.asked++;
    try {
      if (!path.answers) await withSignal(new Promise<void>(() => {}), signal);
    } finally {
      path.settled++;
    }
  });

  flow({ answers }: { readonly answers: boolean }) {
    const ended: string[] = [];
    const session = { close: (reason: string) => void ended.push(reason) } as unknown as Session;
    const relay: { connection: object | undefined } = { connection: {} };
    const path = { answers, asked: 0, settled: 0 };
    this.#paths.set(session, path);
    const signs = this.#watch.enter(
      { session, relay: relay as RelayClient, connector: { uri: "", instance: "" } } satisfies ConnectorPath,
    );
    return { ended, relay, signs, asked: () => path.asked, settled: () => path.settled };
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#watch.close();
    return Promise.resolve();
  }
}
