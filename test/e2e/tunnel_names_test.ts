/** Rules by name on real traffic: what DNS answers that cross the tunnel open, for whom, and for how long. */

import assert from "node:assert/strict";
import { eventually } from "../support/eventually.ts";
import { needsTool, needsTun, testNeeding } from "../support/require_tool.ts";
import { type EgressSource, INTERNET, TunnelGround } from "../support/tunnel_ground.ts";
import { TUNNEL_INTERFACE } from "../support/tunnel_hosts.ts";
import { seenAs, startTicks } from "../support/tunnel_traffic.ts";

const NEEDS = [needsTun(), needsTool("gcc"), needsTool("ping"), needsTool("curl"), needsTool("nft")];

const EGRESS: EgressSource = {
  version: "1.0",
  default_action: "deny",
  clients: {
    "#all": {
      rules: [
        {
          id: "dns",
          type: "ip_cidr",
          action: "allow",
          destinations: [INTERNET.dns],
          protocol: "udp",
          ports: [53],
        },
        { id: "names", type: "fqdn", action: "allow", destinations: ["web.example", "*.cdn.example"] },
      ],
    },
  },
};

/** Each has its own address, so that none opens another's. */
const NAMES = {
  "web.example": { addresses: [INTERNET.web, INTERNET.web6], ttl: 1 },
  "other.example": { addresses: [INTERNET.other], ttl: 300 },
  "cdn.example": { addresses: ["198.51.100.30"], ttl: 300 },
  "img.cdn.example": { addresses: ["198.51.100.31"], ttl: 1 },
  "www.eu.cdn.example": { alias: "edge.example", ttl: 300 },
  "edge.example": { addresses: ["198.51.100.32"], ttl: 300 },
};

testNeeding(
  NEEDS,
  "what a name stands for is open to who asked for it, through the tunnel, while it lasts",
  async (t) => {
    await using ground = await TunnelGround.create({ egress: EGRESS });
    for (const address of ["198.51.100.30", "198.51.100.31", "198.51.100.32"]) {
      await ground.run("internet", ["ip", "addr", "add", `${address}/32`, "dev", "lo"]);
    }
    await ground.writeNames(NAMES);
    const relay = await ground.startRelay();
    await Promise.all([ground.startAgent("agent1"), ground.startAgent("agent2")]);
    const beside = ground.host("agent1").address;

    await t.step("before anybody asks, only the name server is inside", async () => {
      assert.equal(await wayTo(ground, INTERNET.dns), TUNNEL_INTERFACE);
      assert.equal(await wayTo(ground, INTERNET.web), "eth0");
      assert.deepEqual(await seenAs(ground, { from: "agent1", web: INTERNET.web }), { address: beside });
    });

    await t.step("the very first connection to a name goes through the tunnel", async () => {
      assert.equal(await fetchByName(ground, "web.example"), INTERNET.relaySeenAs);
      assert.equal(await fetchByName(ground, "web.example", "-6"), INTERNET.relaySeenAs6);
      assert.equal(await wayTo(ground, INTERNET.web), TUNNEL_INTERFACE);
      assert.equal(await wayTo(ground, INTERNET.web6), TUNNEL_INTERFACE);
    });

    await t.step(
      "a wildcard opens every depth below, by alias too, and neither its apex nor other names",
      async () => {
        assert.equal(await fetchByName(ground, "img.cdn.example"), INTERNET.relaySeenAs);
        assert.equal(await fetchByName(ground, "www.eu.cdn.example"), INTERNET.relaySeenAs);
        for (const name of ["cdn.example", "other.example"]) {
          assert.equal(await fetchByName(ground, name), beside, name);
        }
        assert.equal(await wayTo(ground, INTERNET.other), "eth0");
      },
    );

    await t.step("another agent has to ask for itself", async () => {
      assert.equal(await wayTo(ground, INTERNET.web, "agent2"), "eth0");
      await ground.run("agent2", ["getent", "ahosts", "web.example"]);
      assert.equal(await wayTo(ground, INTERNET.web, "agent2"), TUNNEL_INTERFACE);
    });

    await t.step("after its TTL a name opens nothing, and a flow that began by it goes on", async () => {
      await ground.run("agent1", ["getent", "ahosts", "web.example"]);
      await using ticks = await startTicks(ground, { from: "agent1", to: INTERNET.web });
      // Without a flow its route goes; that of the flow's stays.
      await eventually(async () => await wayTo(ground, INTERNET.web, "agent2") === "eth0", {
        timeout: 30_000,
      });
      await eventually(async () => await wayTo(ground, "198.51.100.31") === "eth0", { timeout: 30_000 });
      await eventually(async () => await wayTo(ground, INTERNET.web6) === "eth0", { timeout: 30_000 });
      assert.equal(await wayTo(ground, INTERNET.web), TUNNEL_INTERFACE);
      assert.equal(await wayTo(ground, "198.51.100.32"), TUNNEL_INTERFACE, "its TTL is longer");
      const last = Number(/^tick (\d+)/.exec(ticks.lines.at(-1)!)![1]);
      await ticks.waitForLine(new RegExp(`^tick ${last + 10} `));
      assert.equal(await fetchByName(ground, "img.cdn.example"), INTERNET.relaySeenAs, "asked again");
    });

    await t.step("the audit log names the name", async () => {
      assert.equal((await relay.stop()).code, 0);
      const text = await Deno.readTextFile(`${ground.deployment.folder}/audit.jsonl`);
      assert.match(text, /"event":"connect".*"tcp\/198\.51\.100\.10:80 \(web\.example\)".*"rule":"names"/);
      assert.match(text, /"event":"connect".*"udp\/8\.8\.8\.8:53".*"rule":"dns"/);
    });
  },
);

/** The interface by which a host's packets to an address leave. */
async function wayTo(
  ground: TunnelGround,
  address: string,
  from: "agent1" | "agent2" = "agent1",
): Promise<string | undefined> {
  return / dev (\S+)/.exec(await ground.run(from, ["ip", "route", "get", address]))?.[1];
}

/** As whom the web server behind a name sees agent1. */
async function fetchByName(ground: TunnelGround, name: string, version = "-4"): Promise<string> {
  return await ground.run("agent1", ["curl", version, "-sS", "--max-time", "10", `http://${name}/ip`]);
}
