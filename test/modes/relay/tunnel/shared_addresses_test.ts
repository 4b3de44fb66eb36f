/** Three relays on one controller with a real database: who has which address at which of them. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { formatIp, parsePrefix } from "../../../../src/base/ip.ts";
import { SILENT_LOGGER } from "../../../../src/base/log.ts";
import { SharedLeases } from "../../../../src/modes/relay/tunnel/shared_leases.ts";
import { idOf, SyncGround } from "../../../control/sync/sync_ground.ts";

Deno.test("an identity has one address at three relays, whichever it comes to first and at once", async () => {
  await using ground = await SyncGround.open();
  const clients = Array.from({ length: 8 }, (_, index) => `a${index}`);
  for (const name of clients) await ground.addIdentity(name, { spiffeId: idOf(`agent/${name}`) });
  await ground.feed.refresh();
  const relays = await Promise.all(["relay-1", "relay-2", "relay-3"].map((name) => openRelay(ground, name)));
  const addresses = await Promise.all(
    clients.map(async (name) => {
      const grants = await Promise.all(relays.map((relay) => relay.acquire(idOf(`agent/${name}`))));
      return grants.map((grant) => grant.ok ? formatIp(grant.lease.ipv4!) : grant.reason);
    }),
  );
  for (const [first, ...others] of addresses) assert.deepEqual(others, [first, first]);
  assert.equal(new Set(addresses.flat()).size, clients.length);
  for (const relay of relays) await relay.close();
});

Deno.test("an identity that is not known, or not any more, gets no address", async () => {
  await using ground = await SyncGround.open();
  const id = await ground.addIdentity("alice", { spiffeId: idOf("agent/alice") });
  await ground.feed.refresh();
  const relay = await openRelay(ground, "relay-1");
  assert.equal((await relay.acquire(idOf("agent/alice"))).ok, true);
  assert.deepEqual(await relay.acquire(idOf("agent/nobody")), { ok: false, reason: "unknown" });
  await ground.changeIdentity(id, { disabled: true });
  await ground.feed.refresh();
  assert.deepEqual(await relay.acquire(idOf("agent/alice")), { ok: false, reason: "unknown" });
  await relay.close();
});

async function openRelay(ground: SyncGround, name: string): Promise<SharedLeases> {
  return await SharedLeases.open({
    link: ground.localLink(idOf(`relay/${name}`)),
    path: join(await Deno.makeTempDir(), "leases.jsonl"),
    pools: [parsePrefix("10.1.0.0/24")!],
    logger: SILENT_LOGGER,
  });
}
