/** Looking sessions up, also a moment too early. */

import assert from "node:assert/strict";
import { SessionTable } from "../../src/dataplane/session_table.ts";
import { sessionPair } from "../support/session_pair.ts";

Deno.test("SessionTable holds a session until it ends", async () => {
  const { agent, connector } = await sessionPair();
  const table = new SessionTable();
  table.add(connector);
  assert.equal(await table.find(connector.id), connector);
  assert.deepEqual([...table.values()], [connector]);
  agent.close();
  await connector.closed;
  assert.equal(table.size, 0);
});

Deno.test("find() waits for a session whose handshake is about to end", async () => {
  await using session = await sessionPair();
  const table = new SessionTable();
  const found = Promise.all([table.find(session.connector.id), table.find(session.connector.id)]);
  table.add(session.connector);
  assert.deepEqual(await found, [session.connector, session.connector]);
});

Deno.test("find() gives up on a session that never comes", async () => {
  await using session = await sessionPair();
  const table = new SessionTable({ lookupTimeout: 1 });
  const found = table.find("00".repeat(16));
  table.add(session.connector);
  assert.equal(await found, undefined);
});

Deno.test("find() lets only so many wait", async () => {
  const table = new SessionTable({ lookupTimeout: 1, maxWaiting: 2 });
  const waiting = [table.find("a"), table.find("b")];
  assert.equal(table.find("c"), undefined);
  assert.deepEqual(await Promise.all(waiting), [undefined, undefined]);
  assert.ok(table.find("c") instanceof Promise);
  await table.find("c");
});
