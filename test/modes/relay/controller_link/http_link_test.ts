/** The link over HTTPS keeps the contract of links, and lets nobody in but relays. */

import assert from "node:assert/strict";
import { testLink } from "../../../control/sync/link_contract.ts";
import { idOf, SyncGround } from "../../../control/sync/sync_ground.ts";

testLink("HTTP link", (ground) => ground.remoteLink());

Deno.test("agents, unknown relays and callers without proof get nothing of the network", async () => {
  await using ground = await SyncGround.open();
  await ground.addIdentity("alice");
  await ground.feed.refresh();
  for (const who of [{ kind: "agent", name: "alice" }, { kind: "relay", name: "stranger" }] as const) {
    const link = await ground.remoteLink(who);
    const refused = { code: "ERR_CONTROLLER_REFUSED" };
    const events = link.follow({ since: undefined, signal: new AbortController().signal });
    await assert.rejects(async () => {
      for await (const _event of events) assert.fail("something was told");
    }, refused);
    await assert.rejects(link.wantViews({ add: [idOf("agent/alice")], remove: [] }), refused);
    await assert.rejects(link.allocate(idOf("agent/alice")), refused);
    await assert.rejects(link.touch([idOf("agent/alice")]), refused);
    await assert.rejects(link.release(idOf("agent/alice")), refused);
    await assert.rejects(link.admitWorkload("spiffe://other.example/x"), refused);
  }
});

Deno.test("a controller that is away is told from one that refuses", async () => {
  await using ground = await SyncGround.open();
  const link = await ground.remoteLink();
  await link.server.close();
  await assert.rejects(link.allocate(idOf("agent/alice")), { code: "ERR_CONTROLLER_UNAVAILABLE" });
});
