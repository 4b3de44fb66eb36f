/** Nodes whose config names no relays follow those their network lists. */

import assert from "node:assert/strict";
import { updateIdentityFile } from "../../src/identity/identity_file.ts";
import type { NodeNetwork } from "../../src/identity/network_document.ts";
import { connectNamed, NamedUpstream } from "../support/named_upstream.ts";
import { Network } from "../support/network.ts";

Deno.test("agent and connector go to a relay that comes onto the list and leave one that goes", async () => {
  await using network = await Network.create();
  using upstream = new NamedUpstream("web");
  const first = await network.relay({ name: "relay-1" });
  const second = await network.relay({ name: "relay-2" });
  const identities = [await network.issue("agent", "alice"), await network.issue("connector", "site")];
  const list = async (rev: number, relays: readonly { name: string; port: number }[]) => {
    const known: NodeNetwork = {
      rev,
      iat: rev,
      controllers: [],
      relays: relays.map(({ name, port }) => ({ name, address: `127.0.0.1:${port}` })),
      trustDomains: [],
      revoked: [],
    };
    for (const path of identities) await updateIdentityFile(path, () => ({ network: known }));
  };
  await list(1, [first]);
  const services = { web: upstream.upstream };
  const connector = await network.connector({ name: "site", services, relays: [], untilBound: false });
  const agent = await network.agent({ name: "alice", forwards: ["web"], relays: [], untilConnected: false });
  await connector.waitForLine(/"service_bound".*"relay":"relay-1"/);
  await agent.waitForLine(/"relay_connected".*"relay":"relay-1"/);
  const before = await connectNamed(agent.forward("web"));
  before.conn.close();

  await list(2, [first, second]);
  await connector.waitForLine(/"service_bound".*"relay":"relay-2"/);
  await agent.waitForLine(/"relay_connected".*"relay":"relay-2"/);

  await list(3, [second]);
  await connector.waitForLine(/"relay_unlisted".*"relay":"relay-1"/);
  await agent.waitForLine(/"relay_unlisted".*"relay":"relay-1"/);
  const next = await connectNamed(agent.forward("web"));
  // The flow before went by the only relay there was.
  assert.equal((await first.audit()).filter(({ event }) => event === "connect").length, 1);
  assert.equal((await second.audit()).filter(({ event }) => event === "connect").length, 1);
  next.conn.close();
});
