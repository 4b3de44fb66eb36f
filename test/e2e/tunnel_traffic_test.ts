/** What crosses an IP tunnel arrives: pings, bulk in both directions, downloads; and as whom the internet sees it. */

import assert from "node:assert/strict";
import { eventually } from "../support/eventually.ts";
import { needsTool, needsTun, testNeeding } from "../support/require_tool.ts";
import { INTERNET, TunnelGround } from "../support/tunnel_ground.ts";
import { download, ping, seenAs, transferTcp, transferUdp } from "../support/tunnel_traffic.ts";

const NEEDS = [needsTun(), needsTool("gcc"), needsTool("ping"), needsTool("curl"), needsTool("nft")];
const AGENTS = ["agent1", "agent2"] as const;
const WEB = [INTERNET.web, INTERNET.web6] as const;
const MIB = 1 << 20;
const FORWARDING = ["/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"];

testNeeding(
  NEEDS,
  "two agents' traffic crosses their tunnels whole, both ways, in both families",
  async (t) => {
    await using ground = await TunnelGround.create();
    await setForwarding(ground, "0");
    const relay = await ground.startRelay();
    const agents = await Promise.all(AGENTS.map((name) => ground.startAgent(name)));

    await t.step("each has addresses of its own, out of the relay's pools", async () => {
      const [gateway4, gateway6 = ""] = await ground.tunnelAddresses("relay");
      assert.equal(gateway4, "10.100.0.1");
      const given = await Promise.all(AGENTS.map((name) => ground.tunnelAddresses(name)));
      assert.deepEqual(given.map(([ipv4]) => ipv4).toSorted(), ["10.100.0.2", "10.100.0.3"]);
      const prefix = gateway6.slice(0, gateway6.indexOf("::") + 2);
      assert.deepEqual(given.map(([, ipv6]) => ipv6).toSorted(), [`${prefix}2`, `${prefix}3`]);
    });

    await t.step("both ping the internet at once without loss", async () => {
      const results = await Promise.all(
        AGENTS.flatMap((from) => [INTERNET.dns, INTERNET.dns6].map((to) => ping(ground, { from, to }))),
      );
      for (const { sent, received, text } of results) {
        assert.deepEqual([sent, received], [4, 4], text);
        // One hop between: the packet went through the relay, not beside it.
        assert.match(text, / ttl=63 /);
      }
    });

    await t.step("TCP carries bulk both ways at once, both agents together", async () => {
      const results = await Promise.all(
        AGENTS.flatMap((from) => WEB.map((to) => transferTcp(ground, { from, to, bytes: 4 * MIB }))),
      );
      for (const result of results) {
        assert.deepEqual(result, { sent: 4 * MIB, received: 4 * MIB, intact: true });
      }
    });

    await t.step("UDP carries bulk both ways, nothing broken, nothing twice", async () => {
      const load = { count: 2_000, size: 1_200 };
      const results = await Promise.all(
        AGENTS.flatMap((from) => WEB.map((to) => transferUdp(ground, { from, to, ...load }))),
      );
      for (const { sent, received, corrupt, duplicate } of results) {
        assert.deepEqual({ sent, corrupt, duplicate }, { sent: load.count, corrupt: 0, duplicate: 0 });
        assert.ok(received >= 0.99 * sent, `${received} of ${sent} came back`);
      }
    });

    await t.step("an HTTP download of 1 MiB is intact", async () => {
      for (const from of AGENTS) {
        for (const web of WEB) {
          const { intact, text } = await download(ground, { from, web, bytes: MIB });
          assert.ok(intact, text);
        }
      }
    });

    await t.step("the internet sees the relay's address, not the agents'", async () => {
      for (const from of AGENTS) {
        assert.deepEqual(await seenAs(ground, { from, web: INTERNET.web }), {
          address: INTERNET.relaySeenAs,
        });
        assert.deepEqual(await seenAs(ground, { from, web: INTERNET.web6 }), {
          address: INTERNET.relaySeenAs6,
        });
      }
    });

    await t.step("each session counts its own packets and bytes", async () => {
      const more = { from: "agent1", web: INTERNET.web, bytes: 8 * MIB } as const;
      assert.ok((await download(ground, more)).intact);
      for (const agent of agents) await agent.stop();
      const closed = await eventually(async () => {
        const lines = await audit(
          ground,
          ({ event, service }) => event === "close" && service === "ip-tunnel",
        );
        return lines.length === AGENTS.length && lines;
      });
      const [first, second] = ["agent-1", "agent-2"].map((name) =>
        closed.find(({ who }) => who === `spiffe://test.example/agent/${name}`)!
      );
      // Bytes in come from the agent: 8 MiB of echoed TCP, 4.6 MiB of UDP, and acknowledgements.
      for (const { bytesIn, bytesOut, packetsIn, packetsOut } of [first!, second!]) {
        assert.ok(bytesIn > 12 * MIB && bytesOut > 14 * MIB, `${bytesIn} in, ${bytesOut} out`);
        assert.ok(packetsIn > 8_000 && packetsOut > 8_000, `${packetsIn} in, ${packetsOut} out`);
      }
      const difference = first!.bytesOut - second!.bytesOut;
      assert.ok(difference > 7 * MIB && difference < 12 * MIB, `agent-1 got ${difference} bytes more`);
    });

    await t.step("a relay that stops takes its NAT and its forwarding back", async () => {
      assert.match(await ground.run("relay", ["nft", "list", "tables"]), /ginnel/);
      assert.deepEqual(await forwarding(ground), ["1", "1"]);
      assert.equal((await relay.stop()).code, 0);
      assert.equal(await ground.run("relay", ["nft", "list", "tables"]), "");
      assert.deepEqual(await forwarding(ground), ["0", "0"]);
    });
  },
);

testNeeding(
  NEEDS,
  "without NAT the internet sees an agent's own address, and the operator's settings stay",
  async () => {
    await using ground = await TunnelGround.create();
    await setForwarding(ground, "1");
    const pools = { ipv4: "100.64.8.0/22", ipv6: "fd99:1234::/64" };
    for (const pool of Object.values(pools)) await ground.routeBack(pool);
    const relay = await ground.startRelay({ nat: "none", ...pools });
    await ground.startAgent("agent1");
    const from = "agent1";

    const [ipv4, ipv6] = await ground.tunnelAddresses(from);
    assert.deepEqual([ipv4, ipv6], ["100.64.8.2", "fd99:1234::2"]);
    assert.deepEqual(await seenAs(ground, { from, web: INTERNET.web }), { address: ipv4 });
    assert.deepEqual(await seenAs(ground, { from, web: INTERNET.web6 }), { address: ipv6 });
    const bulk = await transferTcp(ground, { from, to: INTERNET.web6, bytes: MIB });
    assert.deepEqual(bulk, { sent: MIB, received: MIB, intact: true });
    // Routed both ways, and still nobody outside reaches an agent that did not ask.
    assert.equal((await ping(ground, { from: "internet", to: ipv4!, count: 2 })).received, 0);
    assert.equal((await ping(ground, { from: "internet", to: ipv6!, count: 2 })).received, 0);

    assert.equal(await ground.run("relay", ["nft", "list", "tables"]), "");
    assert.ok(!relay.lines.some((line) => line.includes('"tunnel_network"')), relay.lines.join("\n"));
    assert.equal((await relay.stop()).code, 0);
    assert.deepEqual(await forwarding(ground), ["1", "1"]);
  },
);

testNeeding(NEEDS, "without NAT and without forwarding the relay says what is missing", async () => {
  await using ground = await TunnelGround.create();
  await setForwarding(ground, "0");
  const relay = await ground.startRelay({ nat: "none", ipv6: null });
  await relay.waitForLine(/"tunnel_network".*IPv4 forwarding is off.*sysctl -w net\.ipv4\.ip_forward=1/);
  assert.ok(!relay.lines.some((line) => line.includes("IPv6 forwarding is off")), "it has no IPv6 pool");
});

interface AuditLine {
  readonly event: string;
  readonly who: string;
  readonly service: string;
  readonly bytesIn: number;
  readonly bytesOut: number;
  readonly packetsIn: number;
  readonly packetsOut: number;
}

async function audit(ground: TunnelGround, wanted: (line: AuditLine) => boolean): Promise<AuditLine[]> {
  const text = await Deno.readTextFile(`${ground.deployment.folder}/audit.jsonl`);
  return text.trimEnd().split("\n").map((line) => JSON.parse(line)).filter(wanted);
}

/** A namespace may begin with what the machine has. */
async function setForwarding(ground: TunnelGround, value: "0" | "1"): Promise<void> {
  for (const path of FORWARDING) await ground.run("relay", ["sh", "-c", `echo ${value} > ${path}`]);
}

async function forwarding(ground: TunnelGround): Promise<string[]> {
  return (await ground.run("relay", ["cat", ...FORWARDING])).trim().split("\n");
}
