/** Tunnels of three relays on one controller: whose address is whose, wherever and whatever happens meanwhile. */

import assert from "node:assert/strict";
import { ControlTunnelGround, type RelayHost } from "../support/control_tunnel_ground.ts";
import { eventually } from "../support/eventually.ts";
import type { ManagedProcess } from "../support/processes.ts";
import { needsTool, needsTun, testNeeding } from "../support/require_tool.ts";
import { Rogue } from "../support/rogue.ts";
import { SERVICES } from "../support/tunnel_hosts.ts";
import { ping, seenAs, startTicks } from "../support/tunnel_traffic.ts";

const NEEDS = [needsTun(), needsTool("ping"), needsTool("curl"), needsTool("nft")];
const RELAYS = ["relay1", "relay2", "relay3"] as const;
/** Pool of 13 clients, one of whose addresses is reserved. */
const TUNNEL = { ipv4: "10.100.0.0/28", reservations: { "agent/carol": ["10.100.0.9"] } };
const CLIENTS = 13;

testNeeding(NEEDS, "three relays on one controller give one identity one address", async (t) => {
  const agents = ["alice", "bob", "carol", "dave", "erin", "frank"];
  await using ground = await ControlTunnelGround.create({ tunnel: TUNNEL, agents });
  await using rogue = await Rogue.start(ground, "agent2");
  const open = (name: string, relay: RelayHost) => rogue.open(name, ground.at(relay));
  const ask = (name: string, relay: RelayHost) => rogue.ask(name, ground.at(relay));
  const allocationOf = async (clientId: string) =>
    await ground.api("GET", `/ipam/allocations/${encodeURIComponent(clientId)}`);
  const release = async (clientId: string) => {
    const { status } = await ground.api("DELETE", `/ipam/allocations/${encodeURIComponent(clientId)}`);
    assert.equal(status, 204);
    return performance.now();
  };
  const allocate = (client_id: string) => ground.api("POST", "/ipam/allocations", { client_id });
  const alice = (await ground.agent("alice")).spiffeId;
  let addresses: readonly string[] = [];
  let agent: ManagedProcess | undefined;

  await t.step("at whichever relay, also at all of them at once", async () => {
    const tunnels = await Promise.all(RELAYS.map((relay) => open("alice", relay)));
    addresses = tunnels[0]!.addresses;
    assert.match(addresses[0]!, /^10\.100\.0\.\d+$/);
    assert.match(addresses[1]!, /^fd/);
    for (const tunnel of tunnels) assert.deepEqual(tunnel.addresses, addresses);
    assert.notDeepEqual((await open("bob", "relay2")).addresses, addresses);
    const { json } = await allocationOf(alice);
    const { virtual_ip, virtual_ip6 } = json as Record<string, string>;
    assert.deepEqual([virtual_ip, virtual_ip6], addresses);
    await Promise.all(tunnels.map((tunnel) => tunnel.close()));
  });

  await t.step("after its relay was restarted or killed, with its connections going on", async () => {
    agent = await ground.startAgent("agent1", { name: "alice", relay: "relay1" });
    assert.deepEqual(await ground.tunnelAddresses("agent1"), addresses);
    const { address } = ground.hosts.host("relay1");
    assert.deepEqual(await seenAs(ground, { from: "agent1", web: SERVICES.web }), { address });
    assert.equal((await ping(ground, { from: "agent1", to: SERVICES.web6, count: 2 })).received, 2);
    await using ticks = await startTicks(ground, { from: "agent1", to: SERVICES.web });
    await ground.relay("relay1").stop({ signal: "SIGKILL" });
    const last = lastTick(ticks);
    await ground.startRelay("relay1");
    await ticks.waitForLine(new RegExp(`^tick ${last + 20} `), { timeoutMs: 30_000 });
    assert.deepEqual(await ground.tunnelAddresses("agent1"), addresses);

    const ups = lineCount(agent, "tunnel_up");
    assert.equal((await ground.relay("relay1").stop()).code, 0);
    await ground.startRelay("relay1");
    await eventually(() => lineCount(agent!, "tunnel_up") > ups, { timeout: 30_000 });
    assert.deepEqual(await ground.tunnelAddresses("agent1"), addresses);
  });

  const taken: string[] = [];

  await t.step("no further client gets one from a full pool, but whom it is reserved for", async () => {
    for (let i = 0;; i++) {
      const { status, json } = await allocate(`external-${i}`);
      if (status !== 201) {
        assert.equal(status, 503);
        break;
      }
      taken.push(String((json as { virtual_ip: string }).virtual_ip));
    }
    // Of the pool's addresses alice and bob have one each, and carol's is kept for her.
    assert.equal(taken.length, CLIENTS - 3);
    assert.ok(!taken.includes("10.100.0.9"));
    for (const relay of RELAYS) {
      const { status, proxyStatus } = await ask("dave", relay);
      assert.equal(status, 503);
      assert.match(proxyStatus, /address pool exhausted/);
    }
    assert.equal((await open("carol", "relay3")).addresses[0], "10.100.0.9");
  });

  await t.step("an address that was released is the next one's, at any relay", async () => {
    await release("external-3");
    assert.equal((await open("dave", "relay2")).addresses[0], taken[3]);
    assert.equal((await ask("erin", "relay1")).status, 503);
  });

  await t.step("released while it is used, it ends the tunnels at whichever relay, within 1 s", async () => {
    const others = await Promise.all((["relay2", "relay3"] as const).map((relay) => open("alice", relay)));
    const kept = await open("bob", "relay3");
    const seen = lineCount(agent!, "tunnel_lost");
    const released = await release(alice);
    for (const tunnel of others) await tunnel.untilEnded();
    await eventually(() => lineCount(agent!, "tunnel_lost") > seen);
    const took = performance.now() - released;
    assert.ok(took < 1_000, `${took} ms`);
    assert.equal(await kept.look(), null, "others keep theirs");
    // It comes back by itself, to the one address that is free.
    await eventually(async () => (await allocationOf(alice)).status === 200, { timeout: 20_000 });
    await eventually(async () => (await ground.tunnelAddresses("agent1"))[0] === addresses[0]);
  });

  await t.step(
    "with the controller away who is known gets it again, and a new client is told why not",
    async () => {
      await release("external-4");
      for (const relay of ["relay2", "relay3"] as const) await (await open("alice", relay)).close();
      await using ticks = await startTicks(ground, { from: "agent1", to: SERVICES.web });
      await ground.controller.kill();
      await ground.relay("relay2").stop({ signal: "SIGKILL" });
      await ground.startRelay("relay2");
      // Known at relay2 from before it was killed, and at relay3, which ran all the time.
      for (const relay of ["relay2", "relay3"] as const) {
        const tunnel = await open("alice", relay);
        assert.equal(tunnel.addresses[0], addresses[0], relay);
        await tunnel.close();
      }
      for (const relay of RELAYS) {
        const { status, proxyStatus } = await ask("frank", relay);
        assert.equal(status, 503);
        assert.match(proxyStatus, /controller unavailable: no address for a new client/);
      }
      const last = lastTick(ticks);
      await ticks.waitForLine(new RegExp(`^tick ${last + 10} `));

      await ground.controller.start();
      const { addresses: [frank] } = await eventually(() => open("frank", "relay2"), {
        timeout: 20_000,
        interval: 200,
      });
      assert.equal(frank, taken[4]);
      assert.equal((await ask("erin", "relay3")).status, 503);
    },
  );

  await t.step("other pools are taken over by relays that run, and their clients follow", async () => {
    const running = RELAYS.map((host) => ground.relay(host));
    await ground.restartController({
      ipv4: "10.102.0.0/24",
      ipv6: "fd99::/64",
      reservations: { carol: ["10.102.0.9", "fd99::9"] },
    });
    const [ipv4, ipv6] = await eventually(async () => {
      const [first, second] = await ground.tunnelAddresses("agent1");
      return first?.startsWith("10.102.0.") && [first, second];
    }, { timeout: 30_000, interval: 100 });
    for (const relay of RELAYS) {
      await eventually(async () => (await ground.tunnelAddresses(relay)).join() === "10.102.0.1,fd99::1");
    }
    // An interface has its addresses a moment before the relay takes clients: until then it answers 503.
    for (const relay of ["relay2", "relay3"] as const) {
      const alice = await eventually(() => open("alice", relay));
      assert.deepEqual(alice.addresses, [ipv4, ipv6]);
    }
    const carol = await eventually(() => open("carol", "relay3"));
    assert.deepEqual(carol.addresses, ["10.102.0.9", "fd99::9"]);
    const { address } = ground.hosts.host("relay1");
    assert.equal((await ping(ground, { from: "agent1", to: SERVICES.web6, count: 2 })).received, 2);
    assert.deepEqual(await seenAs(ground, { from: "agent1", web: SERVICES.web }), { address });
    const rules = await ground.run("relay1", ["nft", "list", "ruleset"]);
    assert.match(rules, /10\.102\.0\.0\/24/);
    assert.doesNotMatch(rules, /10\.100\.0\./);
    const { json } = await ground.api("GET", "/ipam/stats");
    assert.equal((json as { ipv4_pool: string }).ipv4_pool, "10.102.0.0/24");
    assert.ok(running.every((relay) => relay.running));
  });
});

function lastTick({ lines }: ManagedProcess): number {
  return Number(/^tick (\d+) /.exec(lines.findLast((line) => line.startsWith("tick ")) ?? "")?.[1]);
}

function lineCount({ lines }: ManagedProcess, event: string): number {
  return lines.filter((line) => line.includes(`"${event}"`)).length;
}
