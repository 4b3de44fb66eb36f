/** The agent's side of a tunnel: what it routes where, names, changes of network, and that it leaves nothing behind. */

import assert from "node:assert/strict";
import { eventually } from "../support/eventually.ts";
import type { ManagedProcess } from "../support/processes.ts";
import { needsTool, needsTun, testNeeding } from "../support/require_tool.ts";
import { INTERNET, TunnelGround } from "../support/tunnel_ground.ts";
import {
  networkPicture,
  touchedTunnelRoutes,
  tunnelRoutes,
  watchRoutes,
  wayTo,
} from "../support/tunnel_host.ts";
import { ping, seenAs } from "../support/tunnel_traffic.ts";

const NEEDS = [needsTun(), needsTool("gcc"), needsTool("ping"), needsTool("curl"), needsTool("nft")];
const from = "agent1";
/** What the internet sees of agent1 where it goes there by itself. */
const DIRECT = { [INTERNET.other]: "10.77.0.1", [INTERNET.other6]: "fd77::1" };
const TUNNELLED = { [INTERNET.web]: INTERNET.relaySeenAs, [INTERNET.web6]: INTERNET.relaySeenAs6 };
const HALVES = ["0.0.0.0/1", "128.0.0.0/1", "8000::/1", "::/1"];

testNeeding(NEEDS, "a split tunnel takes what the relay advertises, and follows its policy", async (t) => {
  await using ground = await TunnelGround.create({ egress: egress(INTERNET.web, INTERNET.web6) });
  await ground.startRelay();
  await ground.startAgent(from);
  await using monitor = await watchRoutes(ground, from);

  await t.step("what is advertised goes through, the rest leaves directly", async () => {
    assert.deepEqual(await tunnelRoutes(ground, from), [INTERNET.web, INTERNET.web6]);
    await assertSeen(ground, { ...TUNNELLED, ...DIRECT });
  });

  await t.step("what a policy opens comes in", async () => {
    await ground.writeEgress(egress(INTERNET.web, INTERNET.web6, INTERNET.other, INTERNET.other6));
    await eventually(async () => (await tunnelRoutes(ground, from)).length === 4);
    await assertSeen(ground, {
      [INTERNET.other]: INTERNET.relaySeenAs,
      [INTERNET.other6]: INTERNET.relaySeenAs6,
    });
  });

  await t.step("what it closes again leaves directly, and no other route is touched", async () => {
    await ground.writeEgress(egress(INTERNET.web, INTERNET.web6));
    await eventually(async () => (await tunnelRoutes(ground, from)).length === 2);
    await assertSeen(ground, { ...TUNNELLED, ...DIRECT });
    const touched = touchedTunnelRoutes(monitor).map((line) => /[0-9a-f]+[.:]\S+/.exec(line)![0]);
    const others = [INTERNET.other, INTERNET.other, INTERNET.other6, INTERNET.other6];
    assert.deepEqual(touched.toSorted(), others.toSorted());
  });
});

testNeeding(NEEDS, "of a list of routes, those go through that the relay advertises", async () => {
  const advertised = ["198.51.0.0/16", "2001:db8::/32", `${INTERNET.otherDns}/32`];
  await using ground = await TunnelGround.create({ egress: egress(...advertised) });
  await ground.writeNames({ "web.test": { addresses: [INTERNET.web], ttl: 60 } });
  await ground.startRelay();
  const before = await networkPicture(ground, from);
  const routes = [`${INTERNET.web}/32`, "2001:db8:100::10/124", "192.0.2.0/24"];
  const agent = await ground.startAgent(from, {
    tunnel: { routes, dns: [INTERNET.otherDns, INTERNET.dns] },
  });
  // The name server that the tunnel leads to comes in beside the list; the other is not advertised.
  assert.deepEqual(await tunnelRoutes(ground, from), [
    INTERNET.otherDns,
    INTERNET.web,
    "2001:db8:100::10/124",
  ]);
  await assertSeen(ground, { ...TUNNELLED, ...DIRECT });

  const servers = (await ground.run(from, ["grep", "^nameserver", "/etc/resolv.conf"])).trim();
  assert.equal(servers, `nameserver ${INTERNET.otherDns}`);
  await assertSeen(ground, { "web.test": INTERNET.relaySeenAs });
  assert.equal((await agent.stop()).code, 0);
  assert.equal(await networkPicture(ground, from), before);
});

testNeeding(
  NEEDS,
  "a full tunnel takes everything but the way to the relay, and leaves nothing behind",
  async (t) => {
    await using ground = await TunnelGround.create();
    await ground.writeNames({ "web.test": { addresses: [INTERNET.web], ttl: 60 } });
    const address = await distantRelay(ground);
    await ground.startRelay();
    const before = await networkPicture(ground, from);
    const options = {
      tunnel: { routes: "full", dns: [INTERNET.otherDns], killSwitch: true },
      config: { relays: [{ name: "relay-1", address }] },
    };
    let agent = await ground.startAgent(from, options);

    await t.step("two routes of each version lead in, the relay is pinned outside", async () => {
      assert.deepEqual(await tunnelRoutes(ground, from), HALVES);
      assert.equal(await wayTo(ground, { from, to: DISTANT }), `eth0 via ${ground.host("internet").address}`);
      const main = await ground.run(from, ["ip", "route", "show", "default"]);
      assert.equal(main.trim(), `default via ${ground.host("internet").address} dev eth0`);
      await assertSeen(ground, {
        ...TUNNELLED,
        [INTERNET.other]: INTERNET.relaySeenAs,
        [INTERNET.other6]: INTERNET.relaySeenAs6,
        "web.test": INTERNET.relaySeenAs,
      });
    });

    await t.step("an orderly stop takes everything back", async () => {
      assert.notEqual(await networkPicture(ground, from), before);
      assert.equal((await agent.stop()).code, 0);
      assert.equal(await networkPicture(ground, from), before);
    });

    await t.step("what a killed agent leaves is gone after the next one's stop", async () => {
      agent = await ground.startAgent(from, options);
      agent.signal("SIGKILL");
      await agent.ended;
      const left = await networkPicture(ground, from);
      for (const leftover of [`^unicast ${DISTANT}`, "table inet ginnel_KILL", "Written by ginnel"]) {
        assert.match(left, new RegExp(leftover, "m"));
      }
      // Of another kind than the first, so that nothing is cleaned up by being used.
      const next = await ground.startAgent(from, { tunnel: { routes: [`${INTERNET.web}/32`] } });
      await next.waitForLine(/"network_leftovers"/);
      assert.deepEqual(await tunnelRoutes(ground, from), [INTERNET.web]);
      const now = await networkPicture(ground, from);
      for (const leftover of [DISTANT, "ginnel_KILL", "Written by ginnel"]) {
        assert.ok(!now.includes(leftover));
      }
      await assertSeen(ground, { ...DIRECT, "web.test": INTERNET.relaySeenAs });
      assert.equal((await next.stop()).code, 0);
      assert.equal(await networkPicture(ground, from), before);
    });
  },
);

testNeeding(NEEDS, "a change of network moves the way to the relay and no other route", async (t) => {
  await using ground = await TunnelGround.create();
  const address = await distantRelay(ground);
  await ground.startRelay();
  const agent = await ground.startAgent(from, {
    tunnel: { routes: "full" },
    config: { relays: [{ name: "relay-1", address }] },
  });
  await works(ground);
  await using monitor = await watchRoutes(ground, from);
  const other = ground.host("agent2").address;

  await t.step("another gateway", async () => {
    await ground.run(from, ["ip", "route", "replace", "default", "via", other]);
    await ground.run("internet", ["sh", "-c", "echo 0 > /proc/sys/net/ipv4/ip_forward"]);
    await works(ground);
    assert.equal(await wayTo(ground, { from, to: DISTANT }), `eth0 via ${other}`);
  });

  await t.step("another address", async () => {
    await ground.run(from, [
      ...["sh", "-ec", "ip addr del 10.77.0.1/24 dev eth0; ip addr add 10.77.0.101/24 dev eth0"],
    ]);
    // For a while there is no way at all, as between two networks.
    await eventually(async () =>
      /^unreachable/.test(await ground.run(from, ["ip", "route", "show", DISTANT]))
    );
    await ground.run(from, ["ip", "route", "add", "default", "via", other]);
    await works(ground);
    assert.equal(await wayTo(ground, { from, to: DISTANT }), `eth0 via ${other}`);
  });

  assert.deepEqual(touchedTunnelRoutes(monitor), []);
  assert.ok(!agent.lines.some((line) => line.includes('"tunnel_lost"')), "the connection itself went on");
  assert.equal((await agent.stop()).code, 0);
  assert.equal(await ground.run(from, ["ip", "route", "show", "proto", "71"]), "");
});

testNeeding(NEEDS, "a relay known by name is found again, also at another address", async (t) => {
  await using ground = await TunnelGround.create();
  const address = await distantRelay(ground);
  const name = (...addresses: readonly string[]) =>
    ground.writeNames({
      "relay.test": { addresses, ttl: 1 },
      "web.test": { addresses: [INTERNET.web], ttl: 60 },
    });
  await ground.writeNames({});
  let relay: ManagedProcess = await ground.startRelay();
  const config = { relays: [{ name: "relay-1", address: address.replace(DISTANT, "relay.test") }] };

  await t.step("a name that comes to be known only after the start", async () => {
    const agent = await ground.startAgent(from, {
      tunnel: { routes: "full", killSwitch: true },
      config,
      untilUp: false,
    });
    await agent.waitForLine(/"relay_unreachable"/);
    await name(DISTANT);
    await works(ground);
    // The relay's machine gets another address while it restarts.
    await relay.stop();
    await name(ELSEWHERE);
    await ground.run("relay", ["ip", "addr", "del", `${DISTANT}/32`, "dev", "lo"]);
    relay = await ground.startRelay();
    await works(ground);
    assert.equal(await wayTo(ground, { from, to: ELSEWHERE }), `eth0 via ${ground.host("internet").address}`);
    assert.equal((await agent.stop()).code, 0);
  });

  await t.step("a name that only the tunnel's own servers could tell while it is down", async () => {
    const agent = await ground.startAgent(from, {
      tunnel: { routes: "full", dns: [INTERNET.otherDns], killSwitch: true },
      config,
    });
    await assertSeen(ground, { "web.test": INTERNET.relaySeenAs });
    await relay.stop();
    await agent.waitForLine(/"tunnel_lost"/);
    relay = await ground.startRelay();
    await works(ground);
    assert.equal((await agent.stop()).code, 0);
  });
});

/** Addresses of the relay that lie behind a gateway, as a relay's do in the world. */
const DISTANT = "192.0.2.7";
const ELSEWHERE = "192.0.2.8";

/** Puts the relay behind two gateways, the internet and agent2; returns its address with the port. */
async function distantRelay(ground: TunnelGround): Promise<string> {
  const relay = ground.host("relay").address;
  for (const address of [DISTANT, ELSEWHERE]) {
    await ground.run("relay", ["ip", "addr", "add", `${address}/32`, "dev", "lo"]);
  }
  const settings = "echo 1 > ip_forward; echo 0 > conf/all/send_redirects; echo 0 > conf/eth0/send_redirects";
  for (const gateway of ["internet", "agent2"] as const) {
    await ground.run(gateway, [
      ...["sh", "-ec", `cd /proc/sys/net/ipv4; ${settings}; ip route add 192.0.2.0/28 via ${relay}`],
    ]);
  }
  return `${DISTANT}:4433`;
}

async function works(ground: TunnelGround): Promise<void> {
  await eventually(async () => {
    const { received, text } = await ping(ground, { from, to: INTERNET.web, count: 1 });
    assert.equal(received, 1, text);
    return true;
  }, { timeout: 45_000, interval: 100 });
}

/** Compares as whom the internet sees agent1 at each of those places. */
async function assertSeen(ground: TunnelGround, wanted: Readonly<Record<string, string>>): Promise<void> {
  const seen = await Promise.all(
    Object.keys(wanted).map(async (web) => [web, (await seenAs(ground, { from, web })).address]),
  );
  assert.deepEqual(Object.fromEntries(seen), wanted);
}

function egress(...destinations: readonly string[]) {
  const rules = [{ id: "open", type: "ip_cidr", action: "allow", destinations }];
  return { version: "1.0", default_action: "deny", clients: { "#all": { rules } } };
}
