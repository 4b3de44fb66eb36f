/**
 * connect-ip-go (RFC 9484) in both roles, with real TUN interfaces in network namespaces: its client against our
 * relay, our agent against its proxy, and first both against each other, so that a failure shows whose it is.
 */

import assert from "node:assert/strict";
import { errorMessage } from "../../src/base/errors.ts";
import { eventually } from "../support/eventually.ts";
import { needsTool, needsTun, testNeeding } from "../support/require_tool.ts";
import { type GroundHost, INTERNET, TunnelGround } from "../support/tunnel_ground.ts";
import { download, ping, seenAs, transferUdp } from "../support/tunnel_traffic.ts";
import { buildGoConnectIp, placeOfRelay, startGoClient, startGoProxy } from "./connect_ip_process.ts";

const GO = needsTool("go");
const NEEDS = [needsTun(), GO, needsTool("ping"), needsTool("curl")];
const MEBIBYTE = 1 << 20;
/** Everything for TCP only; ICMP is allowed whatever a route says (RFC 9484 §4.7.3). */
const TCP_ROUTES = ["0.0.0.0/0/6", "::/0/6"];

testNeeding(NEEDS, "connect-ip-go's client and connect-ip-go's proxy on this ground", async () => {
  const binary = await buildGoConnectIp(GO.path);
  await using ground = await TunnelGround.create();
  const proxy = await startGoProxy(ground, { binary, routes: TCP_ROUTES });
  const stranger = { ...proxy, authorization: "Bearer wrong" };
  await assert.rejects(startGoClient(ground, { binary, from: "agent2", to: stranger }), /"status":401/);
  const { ready } = await startGoClient(ground, { binary, from: "agent1", to: proxy });
  assert.deepEqual(ready.addresses, ["10.200.0.2/32", "fd42:200::2/128"]);
  await assertOpen(ground, { from: "agent1", seen: "10.200.0.2", seen6: "fd42:200::2" });
  await assertNoUdp(ground, "agent1");
  assert.deepEqual(Object.keys(await proxy.received()).toSorted(), ["1", "58", "6"]);
});

testNeeding(NEEDS, "connect-ip-go's client and our relay", async (t) => {
  const binary = await buildGoConnectIp(GO.path);
  const rule = (id: string, rest: Readonly<Record<string, unknown>>) => ({
    ...{ id, type: "ip_cidr", action: "allow", destinations: [INTERNET.web, INTERNET.web6], ...rest },
  });
  await using ground = await TunnelGround.create({
    egress: {
      version: "1.0",
      default_action: "deny",
      clients: {
        "agent/foreigner": {
          rules: [
            rule("web", { protocol: "tcp", ports: [80] }),
            rule("ping", { protocol: "icmp" }),
            rule("ping6", { protocol: "icmpv6" }),
          ],
        },
      },
    },
  });
  const relay = await ground.startRelay({ routes: ["198.51.100.0/24", "2001:db8:100::/64"] });
  const { process, ready } = await startGoClient(ground, {
    binary,
    from: "agent1",
    to: await placeOfRelay(ground),
  });

  await t.step("the tunnel is granted with addresses of the pools and the routes of the config", () => {
    assert.equal(ready.status, 200);
    assert.equal(ready.capsuleProtocol, "?1");
    assert.match(ready.addresses.join(), /^10\.100\.0\.\d+\/32,fd[0-9a-f:]+\/128$/);
    assert.deepEqual(ready.routes, ["198.51.100.0/24", "2001:db8:100::/64"]);
  });

  await t.step("ping, HTTP and 1 MiB get through, as coming from the relay", async () => {
    const { relaySeenAs: seen, relaySeenAs6: seen6 } = INTERNET;
    await assertOpen(ground, { from: "agent1", seen, seen6 });
  });

  await t.step("what the policy does not allow is blocked: protocol, port and address", async () => {
    await assertNoUdp(ground, "agent1");
    const otherPort = await seenAs(ground, { from: "agent1", web: `${INTERNET.web}:8080`, seconds: 2 });
    assert.equal(otherPort.address, undefined);
    const otherAddress = await seenAs(ground, { from: "agent1", web: INTERNET.other, seconds: 2 });
    assert.equal(otherAddress.address, undefined);
    assert.equal((await ping(ground, { from: "agent1", to: INTERNET.other, count: 2 })).received, 0);
    assert.ok(process.running && relay.running);
  });

  await t.step("an identity that no entry of the policy names gets no tunnel", async () => {
    await ground.writeEgress({ version: "1.0", default_action: "deny", clients: {} });
    // The relay reads the policy again by itself, some time soon: until then a tunnel is granted, or ends as it opens.
    await eventually(async () => {
      const granted = startGoClient(ground, { binary, from: "agent2", to: await placeOfRelay(ground) });
      const refusal = await granted.then(({ process }) => process.stop().then(() => ""), errorMessage);
      return refusal.includes('"status":403');
    });
  });
});

testNeeding(NEEDS, "our agent and connect-ip-go's proxy", async (t) => {
  const binary = await buildGoConnectIp(GO.path);
  await using ground = await TunnelGround.create();
  const proxy = await startGoProxy(ground, { binary, routes: TCP_ROUTES });
  const { address, serverName, roots, authorization } = proxy;
  const agent = await ground.startAgent("agent1", {
    config: { relays: [] },
    tunnel: { routes: "advertised", proxy: { address, serverName, roots, authorization } },
  });

  await t.step("the interface has the addresses the proxy assigned", async () => {
    assert.deepEqual(await ground.tunnelAddresses("agent1"), ["10.200.0.2", "fd42:200::2"]);
  });

  await t.step("ping, HTTP and 1 MiB get through", async () => {
    await assertOpen(ground, { from: "agent1", seen: "10.200.0.2", seen6: "fd42:200::2" });
  });

  await t.step("a protocol that the proxy does not advertise stays with the agent", async () => {
    await assertNoUdp(ground, "agent1");
    assert.ok(agent.running);
    assert.deepEqual(Object.keys(await proxy.received()).toSorted(), ["1", "58", "6"]);
  });
});

async function assertOpen(
  ground: TunnelGround,
  { from, seen, seen6 }: { readonly from: GroundHost; readonly seen: string; readonly seen6: string },
): Promise<void> {
  for (const [web, as] of [[INTERNET.web, seen], [INTERNET.web6, seen6]] as const) {
    const { received, text } = await ping(ground, { from, to: web });
    assert.equal(received, 4, text);
    assert.deepEqual(await seenAs(ground, { from, web }), { address: as });
    const { intact, text: said } = await download(ground, { from, web, bytes: MEBIBYTE });
    assert.ok(intact, said);
  }
}

async function assertNoUdp(ground: TunnelGround, from: GroundHost): Promise<void> {
  for (const to of [INTERNET.web, INTERNET.web6]) {
    const { sent, received } = await transferUdp(ground, { from, to, count: 5, size: 200 });
    assert.deepEqual({ sent, received }, { sent: 5, received: 0 });
  }
}
