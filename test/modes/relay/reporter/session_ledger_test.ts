/** Which sessions a controller is told of, whatever happens between a report and its answer. */

import assert from "node:assert/strict";
import { SessionLedger } from "../../../../src/modes/relay/reporter/session_ledger.ts";

const START = {
  identity: "spiffe://t/connector/c",
  kind: "connector",
  remote: "192.0.2.1:5",
  end: () => {},
} as const;

Deno.test("a session is reported when it begins, changes and ends, and then forgotten", () => {
  const ledger = open();
  const session = ledger.open(START);
  assert.deepEqual(report(ledger).map(({ services, closedAt }) => [services, closedAt]), [[[], null]]);
  assert.deepEqual(report(ledger), []);
  session.setServices(["web"]);
  assert.deepEqual(report(ledger).map(({ services }) => services), [["web"]]);
  session.close();
  session.close();
  session.setServices(["late"]);
  assert.deepEqual(report(ledger).map(({ services, closedAt }) => [services, closedAt]), [[["web"], 3]]);
  assert.deepEqual([report(ledger), ledger.size], [[], 0]);
});

Deno.test("what changes while a report is on its way is reported after it", () => {
  const ledger = open();
  const session = ledger.open(START);
  const sent = ledger.changed(10);
  session.close();
  ledger.reported(sent, { reset: 0 });
  assert.deepEqual(report(ledger).map(({ closedAt }) => closedAt), [2]);
});

Deno.test("after too many unheard ends the controller is to close all it knows, and hears of the open ones anew", () => {
  const ledger = open(2);
  assert.equal(ledger.dueReset, 1);
  const stays = ledger.open(START);
  ledger.reported(ledger.changed(10), { reset: 1 });
  assert.equal(ledger.dueReset, 0);
  const before = ledger.changed(10);
  for (let count = 0; count < 3; count++) ledger.open(START).close();
  // A report from before does not count for a reset that came after it.
  ledger.reported(before, { reset: 1 });
  assert.equal(ledger.dueReset, 2);
  assert.deepEqual(report(ledger).map(({ closedAt }) => closedAt), [null]);
  stays.close();
  assert.equal(report(ledger).length, 1);
});

Deno.test("a session is ended by its id, an unknown one is not there", () => {
  const ended: string[] = [];
  const ledger = open();
  ledger.open({ ...START, end: () => ended.push("one") });
  const { id } = ledger.changed(1)[0]!;
  assert.equal(ledger.end("nobody"), false);
  assert.equal(ledger.end(id), true);
  assert.deepEqual(ended, ["one"]);
});

Deno.test("a controller that forgot is told of all that is open, and that nothing else is", () => {
  const ledger = open();
  ledger.open({ ...START, kind: "agent" }).setServices(["web"]);
  ledger.open(START).close();
  report(ledger);
  ledger.repeat();
  assert.equal(ledger.dueReset, 2);
  assert.deepEqual(report(ledger).map(({ kind, services }) => [kind, services]), [["connector", ["web"]]]);
});

Deno.test("a report holds no more than it may; the rest comes next", () => {
  const ledger = open();
  for (let count = 0; count < 5; count++) ledger.open(START);
  assert.deepEqual([2, 2, 1, 0].map(() => report(ledger, 2).length), [2, 2, 1, 0]);
});

function open(maxClosed = 100): SessionLedger {
  let now = 0;
  return new SessionLedger({ relay: "spiffe://t/relay/r", now: () => ++now, maxClosed });
}

function report(ledger: SessionLedger, limit = 10) {
  const records = ledger.changed(limit);
  ledger.reported(records, { reset: ledger.dueReset });
  return records;
}
