/** Tests of the tunnel ground itself, without any tunnel: who reaches whom, seen as whom, and that nothing stays. */

import assert from "node:assert/strict";
import { runCommand } from "./processes.ts";
import { needsNetworkNamespaces, needsTool, needsTun, testNeeding } from "./require_tool.ts";
import { INTERNET, TunnelGround } from "./tunnel_ground.ts";
import { TUNNEL_INTERFACE } from "./tunnel_hosts.ts";
import { answerQuery } from "./tunnel_internet.ts";
import {
  download,
  ping,
  seenAs,
  sendRawGarbage,
  startTicks,
  transferTcp,
  transferUdp,
} from "./tunnel_traffic.ts";

const NEEDS = [needsNetworkNamespaces(), needsTool("ping"), needsTool("curl")];

testNeeding(NEEDS, "a tunnel ground: hosts, internet and what is measured between them", async (t) => {
  await using ground = await TunnelGround.create();

  await t.step("agents reach the internet beside the tunnel and are seen as themselves", async () => {
    for (const name of ["agent1", "agent2"] as const) {
      assert.equal((await ping(ground, { from: name, to: INTERNET.dns })).received, 4);
      const { address } = await seenAs(ground, { from: name, web: INTERNET.web });
      assert.equal(address, ground.host(name).address);
    }
    assert.equal((await seenAs(ground, { from: "agent2", web: INTERNET.web6 })).address, "fd77::2");
  });

  await t.step("the relay reaches it over its second interface, in both families", async () => {
    assert.equal((await seenAs(ground, { from: "relay", web: INTERNET.web })).address, INTERNET.relaySeenAs);
    assert.equal(
      (await seenAs(ground, { from: "relay", web: INTERNET.web6 })).address,
      INTERNET.relaySeenAs6,
    );
    assert.equal((await ping(ground, { from: "relay", to: INTERNET.dns6, count: 2 })).received, 2);
  });

  await t.step("ping tells loss, and the MTU of what is too big", async () => {
    assert.equal((await ping(ground, { from: "agent1", to: "203.0.113.77", count: 1 })).received, 0);
    const big = {
      from: "agent1",
      to: INTERNET.web,
      packetSize: 1_501,
      dontFragment: true,
      count: 1,
    } as const;
    assert.deepEqual([(await ping(ground, big)).mtu, (await ping(ground, big)).received], [1_500, 0]);
    assert.equal((await ping(ground, { ...big, packetSize: 1_500 })).received, 1);
    assert.equal((await ping(ground, { ...big, to: INTERNET.web6, packetSize: 1_500 })).received, 1);
  });

  await t.step("transfers are compared byte by byte", async () => {
    const bytes = 1 << 20, from = "agent1";
    assert.deepEqual(await transferTcp(ground, { from, to: INTERNET.web, bytes }), {
      sent: bytes,
      received: bytes,
      intact: true,
    });
    const udp = await transferUdp(ground, { from, to: INTERNET.web6, count: 300, size: 1_200 });
    assert.deepEqual(udp, { sent: 300, received: 300, corrupt: 0, duplicate: 0 });
    assert.equal((await download(ground, { from, web: INTERNET.web, bytes })).intact, true);
    assert.equal((await download(ground, { from, web: "203.0.113.1", bytes: 0 })).intact, true);
    assert.equal((await download(ground, { from, web: `${INTERNET.web}:1`, bytes: 0 })).intact, false);
  });

  await t.step("ticks go on while they can", async () => {
    await using ticks = await startTicks(ground, { from: "agent1", to: INTERNET.other, silenceMs: 500 });
    await ground.run("agent1", ["ip", "route", "add", "blackhole", INTERNET.other]);
    await ticks.waitForLine(/^broken .*no answer for 500 ms/);
    await ground.run("agent1", ["ip", "route", "del", "blackhole", INTERNET.other]);
  });

  await t.step("the raw way leads through the relay, and back again", async () => {
    await using _raw = await ground.routeRaw(INTERNET.dns);
    assert.equal((await seenAs(ground, { from: "agent1", web: INTERNET.dns })).address, "10.78.0.1");
    const trace = await ping(ground, { from: "agent1", to: INTERNET.dns, count: 1 });
    assert.match(trace.text, /ttl=63/, "one hop between");
  });

  await t.step("the name server answers from names that may change", async () => {
    await ground.writeNames({ "web.example": { addresses: [INTERNET.web, INTERNET.web6], ttl: 60 } });
    const text = await ground.run("agent1", ["getent", "ahosts", "web.example"]);
    assert.match(text, /198\.51\.100\.10/);
    assert.match(text, /2001:db8:100::10/);
  });

  await t.step("a host has a resolv.conf of its own, and no tunnel yet", async () => {
    assert.match(await ground.run("agent1", ["cat", "/etc/resolv.conf"]), /^nameserver 8\.8\.8\.8\n$/);
    assert.deepEqual(await ground.tunnelAddresses("agent1"), []);
  });
});

testNeeding(
  [...NEEDS, needsTun(), needsTool("gcc")],
  "raw garbage goes onto a host's tunnel interface",
  async () => {
    await using ground = await TunnelGround.create();
    const load = { on: "agent2", source: "10.100.0.2", to: INTERNET.web, count: 1_000 } as const;
    await assert.rejects(sendRawGarbage(ground, load));
    await ground.run("agent2", ["ip", "tuntap", "add", "dev", TUNNEL_INTERFACE, "mode", "tun"]);
    await ground.run("agent2", ["ip", "link", "set", TUNNEL_INTERFACE, "up"]);
    assert.equal(await sendRawGarbage(ground, load), 1_000);
  },
);

testNeeding(NEEDS, "a tunnel ground leaves nothing behind", async () => {
  let namespace: string;
  {
    await using ground = await TunnelGround.create();
    ({ namespace } = ground.host("agent1"));
    assert.equal((await runCommand(["ip", "netns", "list"])).includes(namespace), true);
  }
  assert.equal((await runCommand(["ip", "netns", "list"])).includes(namespace), false);
  await assert.rejects(Deno.stat(`/etc/netns/${namespace}`), Deno.errors.NotFound);
});

Deno.test("answerQuery() follows aliases, answers what it has and denies what it does not know", () => {
  const names = {
    "www.example": { alias: "web.example", ttl: 5 },
    "web.example": { addresses: ["198.51.100.10"], ttl: 60 },
  };
  const query = (name: string, type: number) =>
    new Uint8Array([
      ...[7, 9, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0],
      ...name.split(".").flatMap((label) => [label.length, ...new TextEncoder().encode(label)]),
      ...[0, 0, type, 0, 1],
    ]);
  const counts = (answer: Uint8Array | undefined) => [answer?.[0], answer?.[3]! & 15, answer?.[7]];
  assert.deepEqual(counts(answerQuery(query("www.example", 1), names)), [7, 0, 2]);
  assert.deepEqual([...answerQuery(query("web.example", 1), names)!.subarray(-4)], [198, 51, 100, 10]);
  assert.deepEqual(counts(answerQuery(query("web.example", 28), names)), [7, 0, 0]);
  assert.deepEqual(counts(answerQuery(query("nothing.example", 1), names)), [7, 3, 0]);
  assert.equal(answerQuery(query("web.example", 1).subarray(0, 20), names), undefined);
});
