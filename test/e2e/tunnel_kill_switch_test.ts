/**
 * The kill switch: what belongs in the tunnel leaves by no other way, whatever becomes of the relay and of the agent.
 * Packets are counted where they would arrive.
 */

import assert from "node:assert/strict";
import { eventually } from "../support/eventually.ts";
import { needsTool, needsTun, testNeeding } from "../support/require_tool.ts";
import { INTERNET, TunnelGround } from "../support/tunnel_ground.ts";
import { knock, LeakCounter } from "../support/tunnel_host.ts";
import { seenAs } from "../support/tunnel_traffic.ts";

const NEEDS = [needsTun(), needsTool("gcc"), needsTool("ping"), needsTool("curl"), needsTool("nft")];
const from = "agent1";
const TUNNELLED = [INTERNET.web, INTERNET.web6];
const EVERYWHERE = [...TUNNELLED, INTERNET.other, INTERNET.other6, INTERNET.dns, INTERNET.dns6];
/** Its gateway, and a host on its own network: a full tunnel holds those back too. */
const NEIGHBOURS = ["10.77.0.4", "fd77::4", "10.77.0.3", "fd77::3"];

testNeeding(
  NEEDS,
  "with a full tunnel nothing leaves but what keeps the tunnel and the link alive",
  async (t) => {
    await using ground = await TunnelGround.create();
    const counter = await LeakCounter.start(ground, from);
    const options = { tunnel: { routes: "full", killSwitch: true } };
    const all = { from, to: [...EVERYWHERE, ...NEIGHBOURS] } as const;
    let agent = await ground.startAgent(from, { ...options, untilUp: false });

    await t.step("before there ever was a tunnel", async () => {
      await eventually(() => hasSwitch(ground));
      await knock(ground, all);
      await assertHeld(counter);
    });

    let relay = await ground.startRelay();
    await t.step("while the tunnel carries it", async () => {
      await agent.waitForLine(/"tunnel_up"/);
      assert.deepEqual(await seenAs(ground, { from, web: INTERNET.web }), { address: INTERNET.relaySeenAs });
      assert.deepEqual(await seenAs(ground, { from, web: INTERNET.web6 }), {
        address: INTERNET.relaySeenAs6,
      });
      await knock(ground, all);
      await assertHeld(counter);
    });

    await t.step("while the relay is down", async () => {
      await relay.stop({ signal: "SIGKILL" });
      await knock(ground, all);
      await assertHeld(counter);
    });

    await t.step("after the agent was killed", async () => {
      agent.signal("SIGKILL");
      await agent.ended;
      await knock(ground, all);
      assert.equal((await seenAs(ground, { from, web: INTERNET.web, seconds: 1 })).address, undefined);
      await assertHeld(counter);
    });

    await t.step("the address of the link can still be renewed", async () => {
      assert.equal(await counter.count("dhcp"), 0);
      const script = `const socket = Deno.listenDatagram({ transport: "udp", hostname: "0.0.0.0", port: 68 });
      await socket.send(new Uint8Array(300), { transport: "udp", hostname: "10.77.0.4", port: 67 });`;
      await ground.run(from, [Deno.execPath(), "eval", "--unstable-net", script]);
      assert.equal(await counter.count("dhcp"), 1);
    });

    await t.step("the next agent finds the relay, with nothing let out in between", async () => {
      relay = await ground.startRelay();
      agent = await ground.startAgent(from, options);
      await knock(ground, all);
      assert.deepEqual(await seenAs(ground, { from, web: INTERNET.web }), { address: INTERNET.relaySeenAs });
      await assertHeld(counter);
    });

    await t.step("an orderly stop lifts it", async () => {
      assert.equal((await agent.stop()).code, 0);
      assert.equal(await ground.run(from, ["nft", "list", "ruleset"]), "");
      assert.deepEqual(await seenAs(ground, { from, web: INTERNET.web }), { address: "10.77.0.1" });
      assert.deepEqual(await seenAs(ground, { from, web: INTERNET.web6 }), { address: "fd77::1" });
      assert.ok(await counter.count() > 0, "the counter counts");
    });
  },
);

for (const routes of ["advertised", TUNNELLED.map((web) => `${web}/${web.includes(":") ? 128 : 32}`)]) {
  const name = routes === "advertised" ? "with the advertised routes" : "with a list of routes";
  testNeeding(NEEDS, `${name} the switch holds just what belongs in the tunnel`, async (t) => {
    const rules = [{ id: "web", type: "ip_cidr", action: "allow", destinations: TUNNELLED }];
    const clients = { "#all": { rules } };
    await using ground = await TunnelGround.create({
      egress: { version: "1.0", default_action: "deny", clients },
    });
    const counter = await LeakCounter.start(ground, from);
    let relay = await ground.startRelay();
    const options = { tunnel: { routes, killSwitch: true } };
    let agent = await ground.startAgent(from, options);
    const tunnelled = { from, to: TUNNELLED } as const;

    await t.step("while the relay is down, and after the agent was killed", async () => {
      await knock(ground, tunnelled);
      await relay.stop({ signal: "SIGKILL" });
      await knock(ground, tunnelled);
      agent.signal("SIGKILL");
      await agent.ended;
      await knock(ground, tunnelled);
      await assertHeld(counter);
    });

    await t.step("an agent that starts without its relay holds it too", async () => {
      agent = await ground.startAgent(from, { ...options, untilUp: false });
      await agent.waitForLine(/"tunnel_down"/);
      await knock(ground, tunnelled);
      await assertHeld(counter);
      relay = await ground.startRelay();
      await agent.waitForLine(/"tunnel_up"/, { timeoutMs: 30_000 });
      assert.deepEqual(await seenAs(ground, { from, web: INTERNET.web }), {
        address: INTERNET.relaySeenAs,
      });
      await assertHeld(counter);
    });

    await t.step("the rest leaves directly all the time", async () => {
      await relay.stop({ signal: "SIGKILL" });
      agent.signal("SIGKILL");
      await agent.ended;
      assert.deepEqual(await seenAs(ground, { from, web: INTERNET.other }), { address: "10.77.0.1" });
      assert.deepEqual(await seenAs(ground, { from, web: INTERNET.other6 }), { address: "fd77::1" });
      assert.ok(await counter.count() > 0, "the counter counts");
    });

    await t.step("an agent that wants no switch lifts the one that was left", async () => {
      agent = await ground.startAgent(from, { tunnel: { routes }, untilUp: false });
      await agent.waitForLine(/"tunnel_down"/);
      assert.equal(await ground.run(from, ["nft", "list", "ruleset"]), "");
      assert.deepEqual(await seenAs(ground, { from, web: INTERNET.web }), { address: "10.77.0.1" });
    });
  });
}

testNeeding(NEEDS, "without the switch a killed agent's traffic does leave", async () => {
  await using ground = await TunnelGround.create();
  const counter = await LeakCounter.start(ground, from);
  const relay = await ground.startRelay();
  const agent = await ground.startAgent(from, { tunnel: { routes: "full" } });
  await knock(ground, { from, to: EVERYWHERE });
  await relay.stop({ signal: "SIGKILL" });
  await knock(ground, { from, to: EVERYWHERE });
  // Routes alone hold it as long as the agent lives.
  assert.equal(await counter.count(), 0);
  agent.signal("SIGKILL");
  await agent.ended;
  for (const to of EVERYWHERE) {
    const before = await counter.count();
    await knock(ground, { from, to: [to] });
    // Two pings, a connection's first packet, and two datagrams.
    assert.ok(await counter.count() >= before + 5, `${to} was reached`);
  }
});

testNeeding(NEEDS, "an agent that cannot put the switch in force does not start", async () => {
  await using ground = await TunnelGround.create();
  const bare = `${ground.deployment.folder}/bin`;
  await Deno.mkdir(bare);
  await Deno.symlink((await ground.run(from, ["which", "ip"])).trim(), `${bare}/ip`);
  const agent = await ground.startAgent(from, {
    tunnel: { routes: "full", killSwitch: true },
    untilUp: false,
    prefix: ["env", `PATH=${bare}`],
  });
  assert.equal((await agent.ended).code, 1);
  const text = agent.lines.join("\n");
  assert.match(text, /Cannot run nft: it is not there[^]*Install nftables/);
  assert.equal(await ground.run(from, ["ip", "-brief", "link", "show", "type", "tun"]), "");
});

async function hasSwitch(ground: TunnelGround): Promise<boolean> {
  return (await ground.run(from, ["nft", "list", "tables"])).includes("ginnel_KILL");
}

async function assertHeld(counter: LeakCounter): Promise<void> {
  assert.equal(await counter.count(), 0, "packets left beside the tunnel");
}
