/** A relay or an agent that is killed under traffic: what went on goes on, and what was left is cleaned up. */

import assert from "node:assert/strict";
import { eventually } from "../support/eventually.ts";
import type { ManagedProcess } from "../support/processes.ts";
import { needsTool, needsTun, testNeeding } from "../support/require_tool.ts";
import { type GroundHost, INTERNET, TunnelGround } from "../support/tunnel_ground.ts";
import { TUNNEL_INTERFACE } from "../support/tunnel_hosts.ts";
import { patternBytes, sha256 } from "../support/tunnel_internet.ts";
import { ping, seenAs, startTicks, transferTcp } from "../support/tunnel_traffic.ts";

const NEEDS = [needsTun(), needsTool("gcc"), needsTool("ping"), needsTool("curl"), needsTool("nft")];
const AGENTS = ["agent1", "agent2"] as const;
const BYTES = 30_000_000;

testNeeding(NEEDS, "a relay that is killed and started again interrupts nothing", async (t) => {
  await using ground = await TunnelGround.create();
  let relay = await ground.startRelay();
  const agents = await Promise.all(
    AGENTS.map((name) =>
      ground.startAgent(name, { tunnel: { routes: name === "agent1" ? "full" : "advertised" } })
    ),
  );
  const addresses = await Promise.all(AGENTS.map((name) => ground.tunnelAddresses(name)));
  const watches = AGENTS.map((name) => ground.spawn(name, ["ip", "monitor", "route", "address", "link"]));

  const ticks = await Promise.all([
    startTicks(ground, { from: "agent1", to: INTERNET.web, silenceMs: 60_000 }),
    startTicks(ground, { from: "agent2", to: INTERNET.web6, silenceMs: 60_000 }),
  ]);
  // Only the far end sends here: it is for its packets to be let in again.
  const file = `${ground.deployment.folder}/download`;
  const curl = ground.spawn("agent1", [
    ...["curl", "-sSf", "--max-time", "90", "--limit-rate", "10M", "-o", file],
    `http://${INTERNET.other}/bytes/${BYTES}`,
  ]);

  await t.step("the relay is killed amid a download, and started again", async () => {
    await eventually(async () => (await Deno.stat(file)).size > 1_000_000);
    await kill(relay);
    assert.ok((await Deno.stat(file)).size < BYTES, "the download was still running");
    relay = await ground.startRelay();
  });

  await t.step("connections go on, as the same ones", async () => {
    for (const process of ticks) {
      const last = lastTick(process);
      await process.waitForLine(new RegExp(`^tick ${last + 20} `), { timeoutMs: 60_000 });
    }
    assert.equal((await curl.ended).code, 0, curl.lines.join("\n"));
    assert.equal(await sha256(await Deno.readFile(file)), await sha256(patternBytes(BYTES)));
  });

  await t.step("agents have the addresses they had", async () => {
    assert.deepEqual(await Promise.all(AGENTS.map((name) => ground.tunnelAddresses(name))), addresses);
    for (const from of AGENTS) {
      assert.deepEqual(await seenAs(ground, { from, web: INTERNET.web }), { address: INTERNET.relaySeenAs });
    }
  });

  await t.step("no agent touched its routes or addresses meanwhile", async () => {
    assert.deepEqual(watches.map(touched), [[], []]);
    // The watch would have shown it.
    for (const agent of agents) assert.equal((await agent.stop()).code, 0);
    for (const watch of watches) {
      await eventually(() => touched(watch).some((line) => line.startsWith("Deleted ")));
    }
  });
});

testNeeding(NEEDS, "an agent that is killed is cleaned up after by its next start", async (t) => {
  await using ground = await TunnelGround.create();
  await ground.startRelay();
  const from = "agent1";
  const before = await stateOf(ground, from);
  const tunnel = { routes: "full", dns: [INTERNET.dns], killSwitch: true };
  const first = await ground.startAgent(from, { tunnel });
  const [address] = await ground.tunnelAddresses(from);
  const during = await stateOf(ground, from);
  assert.notDeepEqual(during, before);

  await t.step("killed, it lets nothing out by another way", async () => {
    await kill(first);
    assert.deepEqual(await ground.tunnelAddresses(from), []);
    assert.equal((await seenAs(ground, { from, web: INTERNET.web, seconds: 2 })).address, undefined);
    assert.notDeepEqual(await stateOf(ground, from), before);
  });

  await t.step("started again it has the same address and makes nothing twice", async () => {
    const second = await ground.startAgent(from, { tunnel });
    assert.equal((await ground.tunnelAddresses(from))[0], address);
    assert.deepEqual(await stateOf(ground, from), during);
    assert.equal((await ping(ground, { from, to: INTERNET.web })).received, 4);
    await kill(second);
  });

  await t.step("started again with another wish it leaves nothing of the first", async () => {
    const third = await ground.startAgent(from, { tunnel: { routes: ["198.51.100.0/24"] } });
    const { rules, resolvConf, routes } = await stateOf(ground, from);
    assert.deepEqual({ rules, resolvConf }, { rules: before.rules, resolvConf: before.resolvConf });
    assert.equal(routes.filter((route) => route.includes("proto 71")).length, 1, routes.join("\n"));
    const bulk = await transferTcp(ground, { from, to: INTERNET.other, bytes: 1 << 20 });
    assert.ok(bulk.intact);
    assert.equal((await third.stop()).code, 0);
    assert.deepEqual(await stateOf(ground, from), before);
  });
});

testNeeding(NEEDS, "a relay that is killed is cleaned up after by its next start and stop", async () => {
  await using ground = await TunnelGround.create();
  for (const name of ["ipv4/ip_forward", "ipv6/conf/all/forwarding"]) {
    await ground.run("relay", ["sh", "-c", `echo 0 > /proc/sys/net/${name}`]);
  }
  const before = await stateOf(ground, "relay");
  await kill(await ground.startRelay());
  assert.notDeepEqual((await stateOf(ground, "relay")).rules, before.rules);
  const again = await ground.startRelay({ ipv4: "10.102.0.0/24" });
  await ground.startAgent("agent1");
  assert.equal((await ping(ground, { from: "agent1", to: INTERNET.web })).received, 4);
  assert.doesNotMatch((await stateOf(ground, "relay")).rules, /10\.100\.0\./);
  assert.equal((await again.stop()).code, 0);
  assert.deepEqual(await stateOf(ground, "relay"), before);
});

interface NetworkState {
  readonly routes: readonly string[];
  /** Of the firewall. */
  readonly rules: string;
  readonly resolvConf: string;
  readonly forwarding: string;
}

/** All that a node changes on its host. */
async function stateOf(ground: TunnelGround, host: GroundHost): Promise<NetworkState> {
  const routes = await Promise.all(["-4", "-6"].map((version) => ground.run(host, ["ip", version, "route"])));
  const forwarding = ["/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"];
  return {
    // Those that the kernel makes by itself come and go.
    routes: routes.join("\n").split("\n").map((line) => line.trim()).filter((line) =>
      line !== "" && !line.startsWith("fe80::")
    ).toSorted(),
    rules: await ground.run(host, ["nft", "list", "ruleset"]),
    resolvConf: await ground.run(host, ["cat", "/etc/resolv.conf"]),
    forwarding: await ground.run(host, ["cat", ...forwarding]),
  };
}

async function kill(node: ManagedProcess): Promise<void> {
  await node.stop({ signal: "SIGKILL" });
}

/** What `ip monitor` saw of the tunnel's routes and addresses; its MTU may change. */
function touched({ lines }: ManagedProcess): string[] {
  return lines.filter((line) =>
    line.includes("proto 71") || (line.includes(TUNNEL_INTERFACE) && !line.includes(" mtu "))
  );
}

function lastTick({ lines }: ManagedProcess): number {
  return Number(/^tick (\d+) /.exec(lines.findLast((line) => line.startsWith("tick ")) ?? "")?.[1]);
}
