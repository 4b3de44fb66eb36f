/** What is counted of each service's use. */

import assert from "node:assert/strict";
import { UsageTable } from "../../../src/modes/agent/service_usage.ts";

const PATH = { relay: "r1", connector: "spiffe://td/connector/c", carrier: "quic", direct: false } as const;
const OTHER_PATH = { ...PATH, relay: "r2", carrier: "tls" } as const;

Deno.test("flows are counted by service, with the last use and the last path", () => {
  let now = 10;
  const table = new UsageTable({ now: () => now });
  const leave = table.enter("web", PATH);
  now = 20;
  const leaveOther = table.enter("web", OTHER_PATH);
  assert.deepEqual(table.services.get("web"), { flows: 2, lastUsed: 20, lastPath: OTHER_PATH });
  now = 30;
  leave();
  now = 40;
  leave();
  assert.deepEqual(table.services.get("web"), { flows: 1, lastUsed: 30, lastPath: OTHER_PATH });
  leaveOther();
  assert.deepEqual(table.services.get("web"), { flows: 0, lastUsed: 40, lastPath: OTHER_PATH });
});

Deno.test("a service that is forgotten while it is used counts anew", () => {
  const table = new UsageTable({ now: () => 1 });
  const leave = table.enter("web", PATH);
  table.enter("db", PATH);
  table.retain((service) => service === "db");
  assert.deepEqual([...table.services.keys()], ["db"]);
  table.enter("web", PATH);
  leave();
  assert.equal(table.services.get("web")?.flows, 1);
});
