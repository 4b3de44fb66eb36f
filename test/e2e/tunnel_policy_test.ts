/** The egress policy on real traffic: changes under way, each action as programs see it, names, audit, broken files. */

import assert from "node:assert/strict";
import { eventually } from "../support/eventually.ts";
import type { ManagedProcess } from "../support/processes.ts";
import { needsTool, needsTun, testNeeding } from "../support/require_tool.ts";
import { type EgressSource, INTERNET, TunnelGround } from "../support/tunnel_ground.ts";
import { download, ping, seenAs, startTicks, transferUdp } from "../support/tunnel_traffic.ts";

const NEEDS = [needsTun(), needsTool("gcc"), needsTool("ping"), needsTool("curl"), needsTool("nft")];
const SEEN = [INTERNET.relaySeenAs, INTERNET.relaySeenAs6];
const OTHER = [INTERNET.other, INTERNET.other6];

/** Verbatim what zgate's relay reads. */
const ZGATE_POLICY = `version: "1.0"
metadata: { name: "masque-ztna-policy", description: "...", created_at: "2026-01-03T00:00:00Z" }
default_action: deny
clients:
  client-1:
    description: "Medical Institution A - Restricted Access"
    rules:
      - { id: "allow-dns", type: ip_cidr, action: allow, destinations: [8.8.8.8/32, 1.1.1.1/32], metadata: { reason: "DNS resolution", category: "infrastructure" } }
      - { id: "deny-default", type: default, action: deny }
  client-2: { description: "...", rules: [ { id: allow-all, type: ip_cidr, action: allow, destinations: [0.0.0.0/0], metadata: {} } ] }
`;

testNeeding(
  NEEDS,
  "a policy that changes under traffic holds for each flow from its next packet",
  async (t) => {
    await using ground = await TunnelGround.create({ egress: everythingBut("allow") });
    const relay = await ground.startRelay();
    await ground.startAgent("agent1");
    const from = "agent1";
    let loads = 1;
    const change = async (egress: EgressSource) => {
      await ground.writeEgress(egress);
      await untilLogged(relay, "egress_policy_loaded", ++loads);
    };

    await t.step(
      "a flow that stays allowed goes on without loss, one that lost its right stops at once",
      async () => {
        await using kept = await startTicks(ground, { from, to: INTERNET.web });
        await using lost = await startTicks(ground, { from, to: INTERNET.other, silenceMs: 2_000 });
        await using lost6 = await startTicks(ground, { from, to: INTERNET.other6, silenceMs: 2_000 });
        const pings = ground.spawn(from, ["ping", "-n", "-i", "0.05", "-c", "120", "-W", "5", INTERNET.dns]);
        await change(everythingBut("drop"));
        const last = [lost, lost6].map(lastTick);
        for (const ticks of [lost, lost6]) await ticks.waitForLine(/^broken .*no answer/);
        // One answer may have been under way.
        assert.ok(lastTick(lost) <= last[0]! + 1 && lastTick(lost6) <= last[1]! + 1);
        for (const action of ["reject", "drop"] as const) await change(everythingBut(action));
        const before = lastTick(kept);
        await kept.waitForLine(new RegExp(`^tick ${before + 20} `));
        await pings.ended;
        assert.match(pings.lines.join("\n"), /120 packets transmitted, 120 received/);
      },
    );

    await t.step("deny says nothing to the program", async () => {
      for (const to of OTHER) {
        const { received, text } = await ping(ground, { from, to, count: 2 });
        assert.equal(received, 0);
        assert.doesNotMatch(text, /From /);
        const { fault = "" } = await seenAs(ground, { from, web: to, seconds: 2 });
        assert.match(fault, /timed out/i);
      }
    });

    await t.step("reject tells it with the ICMP message for what is prohibited", async () => {
      await change(everythingBut("reject"));
      for (const to of OTHER) {
        const { received, text } = await ping(ground, { from, to, count: 2 });
        assert.equal(received, 0);
        assert.match(text, /From (10\.100\.0\.1|fd\S+::1) icmp_seq=1 .*(Packet filtered|prohibited)/);
        const { fault = "" } = await seenAs(ground, { from, web: to, seconds: 10 });
        assert.match(fault, /No route to host|Permission denied|Could not connect|Failed to connect/i);
        assert.doesNotMatch(fault, /timed out/i);
      }
      assert.equal((await transferUdp(ground, { from, to: INTERNET.other, count: 3, size: 64 })).received, 0);
    });

    await t.step("a broken file changes nothing but the log", async () => {
      await ground.writeEgress({
        clients: { "#all": { rules: [{ id: "x", type: "ip_cidr", action: "alow" }] } },
      });
      await relay.waitForLine(/"egress_policy_refused".*alow|"egress_policy_refused".*clients/);
      assert.deepEqual(await seenAs(ground, { from, web: INTERNET.web }), { address: SEEN[0] });
      assert.equal((await ping(ground, { from, to: INTERNET.other, count: 1 })).received, 0);
      await change(everythingBut("allow"));
      assert.deepEqual(await seenAs(ground, { from, web: INTERNET.other }), { address: SEEN[0] });
    });

    await t.step("the audit log has each flow's first packet, its rule, and what it carried", async () => {
      const bytes = 300_000;
      assert.ok((await download(ground, { from, web: INTERNET.otherDns, bytes })).intact);
      assert.equal((await relay.stop()).code, 0);
      const lines = await audit(ground);
      const who = "spiffe://test.example/agent/agent-1";
      const web = lines.filter(({ service }) => service === `tcp/${INTERNET.otherDns}:80`);
      assert.deepEqual(
        web.map(({ level, event, who, outcome, rule, reason }) => [level, event, who, outcome, rule, reason]),
        [["info", "connect", who, "allow", "all", "rule"], ["info", "close", who, "allow", "all", "rule"]],
      );
      const [, close] = web;
      assert.ok(close!.bytesOut > bytes && close!.bytesOut < 1.2 * bytes, `${close!.bytesOut} bytes`);
      assert.ok(close!.packetsOut > 200 && close!.packetsIn > 5, JSON.stringify(close));
      const denied = lines.filter(({ service }) => service === `tcp/${INTERNET.other}:80`);
      const first = denied.filter(({ event }) => event === "deny");
      assert.deepEqual(
        new Set(first.map(({ level, rule, who }) => [level, rule, who].join())),
        new Set([
          `warn,but,${who}`,
        ]),
      );
      assert.deepEqual(new Set(first.map(({ outcome }) => outcome)), new Set(["drop", "reject"]));
      // Its retries are counted, not written down one by one.
      const silent = lines.filter(({ service }) => service === `icmpv6/[${INTERNET.other6}]`);
      assert.ok(silent.some(({ event, packetsIn }) => event === "close" && packetsIn === 2));
    });
  },
);

testNeeding(NEEDS, "zgate's policy file holds as it is", async () => {
  await using ground = await TunnelGround.create();
  await Deno.writeTextFile(`${ground.deployment.folder}/policy.yaml`, ZGATE_POLICY);
  const relay = await ground.startRelay({ policy: ["policy.yaml"] });
  const first = await ground.startAgent("agent1", { identity: "client-1" });
  await ground.startAgent("agent2", { identity: "client-2" });

  // Both of S3's clients ping; the first one gets nowhere else, the second everywhere in IPv4.
  for (const from of ["agent1", "agent2"] as const) {
    for (const to of [INTERNET.dns, INTERNET.otherDns]) {
      assert.equal((await ping(ground, { from, to })).received, 4);
      assert.deepEqual(await seenAs(ground, { from, web: to }), { address: INTERNET.relaySeenAs });
    }
  }
  const beside = ground.host("agent1").address;
  assert.deepEqual(await seenAs(ground, { from: "agent1", web: INTERNET.web }), { address: beside });
  assert.deepEqual(await seenAs(ground, { from: "agent2", web: INTERNET.web }), {
    address: INTERNET.relaySeenAs,
  });

  await first.stop();
  const stranger = await ground.startAgent("agent1", { identity: "client-3", untilUp: false });
  await stranger.waitForLine(/"tunnel_refused","status":403/);
  assert.deepEqual(await ground.tunnelAddresses("agent1"), []);
  assert.ok(relay.running);
});

interface AuditLine {
  readonly level: string;
  readonly event: string;
  readonly who: string;
  readonly service: string;
  readonly outcome: string;
  readonly rule?: string;
  readonly reason?: string;
  readonly bytesOut: number;
  readonly packetsIn: number;
  readonly packetsOut: number;
}

async function audit(ground: TunnelGround): Promise<AuditLine[]> {
  const text = await Deno.readTextFile(`${ground.deployment.folder}/audit.jsonl`);
  return text.trimEnd().split("\n").map((line) => JSON.parse(line));
}

/** Everything is allowed except, unless `action` says so too, the second web server. */
function everythingBut(action: "allow" | "drop" | "reject"): EgressSource {
  const rules = [
    { id: "but", type: "ip_cidr", action, destinations: OTHER },
    { id: "all", type: "ip_cidr", action: "allow", destinations: ["0.0.0.0/0", "::/0"] },
  ];
  return { version: "1.0", clients: { "#all": { rules } } };
}

function lastTick({ lines }: ManagedProcess): number {
  return Number(/^tick (\d+) /.exec(lines.findLast((line) => line.startsWith("tick ")) ?? "")?.[1]);
}

async function untilLogged(node: ManagedProcess, event: string, times: number): Promise<void> {
  await eventually(() => node.lines.filter((line) => line.includes(`"${event}"`)).length >= times);
}
