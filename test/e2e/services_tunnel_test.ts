/** An agent with an IP tunnel of everything and services at once: neither has what is the other's. */

import assert from "node:assert/strict";
import { eventually } from "../support/eventually.ts";
import { needsRoot, needsTool, needsTun, testNeeding } from "../support/require_tool.ts";
import { dig, untilNamed } from "../support/service_commands.ts";
import { ServiceGround } from "../support/service_ground.ts";
import { UPSTREAM_PORTS } from "../support/service_upstreams.ts";
import { SERVICES } from "../support/tunnel_hosts.ts";
import { OPEN_EGRESS } from "../support/tunnel_ground.ts";
import { seenAs } from "../support/tunnel_traffic.ts";

const NEEDS = [needsRoot(), needsTun(), needsTool("curl"), needsTool("dig"), needsTool("nft")];
/** The relay's address behind a gateway, as relays have it in the world, and its neighbour's. */
const RELAY = "192.0.2.7";
const NEIGHBOUR = "192.0.2.9";
const OWN = `nameserver ${SERVICES.dns}\nsearch lan\n`;
const port = UPSTREAM_PORTS.web;
const host = "agent1";

testNeeding(NEEDS, "a tunnel of everything and services, with names of both, in one agent", async (t) => {
  await using ground = await ServiceGround.create({ relay: { tunnel: {} } });
  const gateway = ground.hosts.host("conn2").address;
  await prepare(ground, gateway);
  await ground.service({ name: "web" });
  const lan = await ground.service({
    name: "lan",
    intercept: { addresses: ["192.0.2.0/24"], portRanges: [{ low: port, high: port }], protocols: ["tcp"] },
  });
  await ground.allow("Dial");
  await ground.allow("Bind");
  const { id } = await ground.make("/policies", { name: "egress", document: OPEN_EGRESS });
  assert.equal((await ground.api("POST", `/policies/${id}/activate`)).status, 200);
  const script = new URL("../support/service_upstreams.ts", import.meta.url).pathname;
  const upstreams = ground.spawn("conn1", [
    Deno.execPath(),
    "run",
    "-A",
    "--unstable-net",
    "--no-check",
    script,
  ]);
  await upstreams.waitForLine(/^ready$/);
  const upstream = `tcp://127.0.0.1:${port}`;
  await ground.startConnector("conn1", { services: [{ name: "web", upstream }, { name: "lan", upstream }] });

  const file = `/etc/netns/${ground.hosts.host(host).namespace}/resolv.conf`;
  await Deno.writeTextFile(file, OWN);
  const relays = [{ name: "relay-1", address: `${RELAY}:4433` }];
  const config = {
    relays,
    tunnel: { routes: "full", dns: [SERVICES.otherDns], killSwitch: true },
    services: {},
  };
  const start = async () => {
    const agent = await ground.startAgent(host, config);
    await agent.waitForLine(/"tunnel_up"/, { timeoutMs: 30_000 });
    await untilNamed(ground, host);
    return agent;
  };
  const wayTo = async (address: string) =>
    / (?:via (\S+) )?dev (\S+)/.exec(await ground.run(host, ["ip", "route", "get", address]))!.slice(1)
      .toReversed();
  const get = (place: string) =>
    ground.run(host, ["curl", "-sSf", "--max-time", "5", `http://${place}:${port}/get`]);
  let agent = await start();

  await t.step(
    "services go by their interface, everything else by the tunnel, the relay by neither",
    async () => {
      assert.equal(
        JSON.parse(await eventually(() => get("web.ginnel.internal"))).host,
        `web.ginnel.internal:${port}`,
      );
      assert.equal(JSON.parse(await eventually(() => get(NEIGHBOUR))).host, `${NEIGHBOUR}:${port}`);
      const relay = ground.hosts.host("relay1").address;
      assert.deepEqual(await seenAs(ground, { from: host, web: SERVICES.web }), { address: relay });
      const { answers: [web = ""] } = await dig(ground, { host, name: "web.ginnel.internal" });
      assert.match(web, /^10\.101\./);
      const ways = await Promise.all([web, NEIGHBOUR, SERVICES.web, RELAY].map(wayTo));
      assert.deepEqual(ways, [["ginnel1", undefined], ["ginnel1", undefined], ["ginnel0", undefined], [
        "eth0",
        gateway,
      ]]);
    },
  );

  await t.step("names of services are ours, all others the tunnel's name servers'", async () => {
    const text = await Deno.readTextFile(file);
    assert.match(text, /\nnameserver 10\.101\.0\.1\nnameserver fd/);
    assert.ok(!text.includes(SERVICES.otherDns));
    await ground.run(host, [
      "nft",
      "table inet probe { counter asked { }; chain out { type filter hook output priority 0; " +
      `oifname ginnel0 ip daddr ${SERVICES.otherDns} udp dport 53 counter name asked; }; }`,
    ]);
    assert.deepEqual(await dig(ground, { host, name: "public.test" }), {
      code: "NOERROR",
      answers: [SERVICES.web],
    });
    const counter = await ground.run(host, ["nft", "list", "counter", "inet", "probe", "asked"]);
    assert.match(counter, /packets [1-9]/);
    await ground.run(host, ["nft", "delete", "table", "inet", "probe"]);
  });

  await t.step("a service that goes takes its routes along, and none of the tunnel's", async () => {
    await ground.remove(`/services/${lan}`);
    await eventually(async () => (await wayTo(NEIGHBOUR))[0] === "ginnel0");
    assert.deepEqual(await wayTo(RELAY), ["eth0", gateway]);
    const relay = ground.hosts.host("relay1").address;
    assert.deepEqual(await seenAs(ground, { from: host, web: SERVICES.web }), { address: relay });
    assert.equal(JSON.parse(await get("web.ginnel.internal")).path, "/get");
  });

  await t.step("killed and started again both are there; stopped, neither is", async () => {
    await agent.stop({ signal: "SIGKILL" });
    agent = await start();
    assert.equal(JSON.parse(await eventually(() => get("web.ginnel.internal"))).path, "/get");
    assert.ok((await seenAs(ground, { from: host, web: SERVICES.web })).address);
    assert.equal((await agent.stop()).code, 0);
    assert.equal(await Deno.readTextFile(file), OWN);
    for (const command of ["ip route show proto 71", "ip -6 route show proto 71", "nft list ruleset"]) {
      assert.equal(await ground.run(host, command.split(" ")), "");
    }
  });
});

/** Makes `conn2` the internet, which also leads to the relay. */
async function prepare(ground: ServiceGround, gateway: string): Promise<void> {
  const { hosts } = ground;
  await hosts.startInternet("conn2");
  await hosts.writeNames({ "public.test": { addresses: [SERVICES.web], ttl: 60 } });
  for (const name of [host, "relay1"] as const) {
    await hosts.configure(name, [
      `route add default via ${gateway}`,
      `route add ::/0 via ${hosts.address6("conn2")}`,
    ]);
  }
  await hosts.configure("relay1", [`addr add ${RELAY}/32 dev lo`]);
  const settings = "echo 1 > ip_forward; echo 0 > conf/all/send_redirects; echo 0 > conf/eth0/send_redirects";
  const route = `ip route add 192.0.2.0/28 via ${hosts.host("relay1").address}`;
  await ground.run("conn2", ["sh", "-ec", `cd /proc/sys/net/ipv4; ${settings}; ${route}`]);
}
