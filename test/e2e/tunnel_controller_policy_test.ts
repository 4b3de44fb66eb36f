/** Egress policies and identities of a controller, on tunnels that run at three relays: changes, refusals, the way back. */

import assert from "node:assert/strict";
import { ControlTunnelGround, type PolicyVersion } from "../support/control_tunnel_ground.ts";
import { eventually } from "../support/eventually.ts";
import type { ManagedProcess } from "../support/processes.ts";
import { needsTool, needsTun, testNeeding } from "../support/require_tool.ts";
import { Rogue, type RogueTunnel } from "../support/rogue.ts";
import { SERVICES } from "../support/tunnel_hosts.ts";
import { startTicks } from "../support/tunnel_traffic.ts";

const NEEDS = [needsTun(), needsTool("ping"), needsTool("nft")];

/** What zgate's relay reads from its policy.yaml, as JSON. */
const ZGATE_POLICY = {
  version: "1.0",
  metadata: { name: "masque-ztna-policy", description: "...", created_at: "2026-01-03T00:00:00Z" },
  default_action: "deny",
  clients: {
    "client-1": {
      description: "Medical Institution A - Restricted Access",
      rules: [
        {
          id: "allow-dns",
          type: "ip_cidr",
          action: "allow",
          destinations: ["8.8.8.8/32", "1.1.1.1/32"],
          metadata: { reason: "DNS resolution", category: "infrastructure" },
        },
        { id: "deny-default", type: "default", action: "deny" },
      ],
    },
    "client-2": {
      description: "...",
      rules: [
        { id: "allow-all", type: "ip_cidr", action: "allow", destinations: ["0.0.0.0/0"], metadata: {} },
      ],
    },
  },
};

/** The same, but that the first client may go to one more place. */
const ZGATE_POLICY_2 = {
  ...ZGATE_POLICY,
  clients: {
    ...ZGATE_POLICY.clients,
    "client-1": {
      rules: [
        {
          id: "allow-more",
          type: "ip_cidr",
          action: "allow",
          destinations: ["8.8.8.8/32", "198.51.100.0/28"],
        },
      ],
    },
  },
};

/** How long a silent flow counts as broken. */
const SILENCE_MS = 1_500;

testNeeding(NEEDS, "a controller's egress policy is that of all running tunnels", async (t) => {
  const agents = ["client-1", "client-2", "client-3"];
  await using ground = await ControlTunnelGround.create({ agents });
  await using rogue = await Rogue.start(ground, "agent2");
  // Whole, so that what its rules do not allow does not leave beside the tunnel.
  await ground.startAgent("agent1", { name: "client-1", relay: "relay1", tunnel: { routes: "full" } });
  const second = await ground.startAgent("agent2", { name: "client-2", relay: "relay2" });
  const third: RogueTunnel = await rogue.open("client-3", ground.at("relay3"));
  const to = SERVICES.web;
  await using dns = await startTicks(ground, { from: "agent1", to: SERVICES.dns });
  await using everywhere = await startTicks(ground, { from: "agent2", to });
  let zgate: PolicyVersion | undefined;
  const activate = async (id: string) => {
    await ground.activate(id);
    return performance.now();
  };
  const activeVersions = async () => {
    const { json } = await ground.api("GET", "/policies?active=true");
    return (json as { data: (PolicyVersion & { name: string })[] }).data.map(({ name, version }) =>
      `${name}@${version}`
    );
  };
  const goesOn = async (...flows: ManagedProcess[]) => {
    for (const flow of flows) await flow.waitForLine(new RegExp(`^tick ${lastTick(flow) + 10} `));
  };
  /** Pings from the first client, as lines; it may be that nothing comes back at first. */
  const pings = () => ground.spawn("agent1", ["ping", "-n", "-O", "-i", "0.05", "-c", "600", to]);

  await t.step("what is posted holds for nobody before it is activated", async () => {
    zgate = await ground.make<PolicyVersion & { readonly [field: string]: unknown }>("/policies", {
      name: "zgate",
      description: "zgate's own",
      document: ZGATE_POLICY,
    });
    assert.deepEqual([zgate.version, zgate.active], ["1", false]);
    await using web = await startTicks(ground, { from: "agent1", to });
    await goesOn(web, dns, everywhere);
    assert.deepEqual(await activeVersions(), ["egress@1"]);
  });

  await t.step(
    "activated, it ends what it forbids within 1 s, and what it allows loses no packet",
    async () => {
      await using lost = await startTicks(ground, { from: "agent1", to, silenceMs: SILENCE_MS });
      const allowed = ground.spawn("agent2", ["ping", "-n", "-i", "0.05", "-c", "60", "-W", "5", to]);
      const broken = lost.waitForLine(/^broken .*no answer/).then(() => performance.now());
      const at = await activate(zgate!.id);
      // Without any rule there is no tunnel.
      await third.untilEnded();
      within1s("the tunnel of whom no rule names", performance.now() - at);
      within1s("the flow that is forbidden now", await broken - SILENCE_MS - at);
      await goesOn(dns, everywhere);
      await allowed.ended;
      assert.match(allowed.lines.join("\n"), /60 packets transmitted, 60 received/);
      assert.deepEqual(await activeVersions(), ["zgate@1"]);
      assert.equal((await rogue.ask("client-3", ground.at("relay3"))).status, 403);
    },
  );

  await t.step("an invalid one is refused with its fields named, and the one before stays", async () => {
    const [rule] = ZGATE_POLICY.clients["client-1"].rules;
    const clients = { "client-1": { rules: [{ ...rule, action: "alow" }] } };
    const document = { ...ZGATE_POLICY, clients };
    const answers = [
      await ground.api("POST", "/policies", { name: "broken", document }),
      await ground.api("PUT", `/policies/${zgate!.id}`, { document }),
    ];
    for (const { status, json, headers } of answers) {
      assert.equal(status, 400, JSON.stringify(json));
      assert.match(headers["content-type"] ?? "", /^application\/problem\+json/);
      const { errors } = json as { errors: { field: string; message: string }[] };
      assert.deepEqual(errors.map(({ field }) => field), ["document.clients.client-1.rules[0].action"]);
      assert.match(errors[0]!.message, /did you mean allow/);
    }
    assert.equal((await ground.api("POST", `/policies/${crypto.randomUUID()}/activate`)).status, 404);
    assert.deepEqual(await activeVersions(), ["zgate@1"]);
    await goesOn(dns, everywhere);
  });

  await t.step("the next version opens within 1 s, and the older one, activated again, closes", async () => {
    await using replies = pings();
    await replies.waitForLine(/icmp_seq=3\b/);
    assert.ok(!replies.lines.some((line) => line.includes("bytes from")));
    const { status, json } = await ground.api("PUT", `/policies/${zgate!.id}`, { document: ZGATE_POLICY_2 });
    assert.equal(status, 201);
    const next = json as PolicyVersion;
    assert.deepEqual([next.version, next.active], ["2", false]);
    const reply = replies.waitForLine(/bytes from/).then(() => performance.now());
    const opened = await activate(next.id);
    within1s("the flow that is allowed now", await reply - opened);
    assert.deepEqual(await activeVersions(), ["zgate@2"]);

    await using lost = await startTicks(ground, { from: "agent1", to, silenceMs: SILENCE_MS });
    const broken = lost.waitForLine(/^broken .*no answer/).then(() => performance.now());
    const closed = await activate(zgate!.id);
    within1s("the flow that is forbidden again", await broken - SILENCE_MS - closed);
    assert.deepEqual(await activeVersions(), ["zgate@1"]);
    await goesOn(dns, everywhere);
  });

  await t.step("a disabled identity loses its tunnel within 1 s, and its addresses", async () => {
    const { id, spiffeId } = await ground.agent("client-2");
    const path = `/ipam/allocations/${encodeURIComponent(spiffeId)}`;
    assert.equal((await ground.api("GET", path)).status, 200);
    const lost = second.waitForLine(/"tunnel_lost"/).then(() => performance.now());
    const { status } = await ground.api("POST", `/identities/${id}/disable`);
    const at = performance.now();
    assert.equal(status, 200);
    within1s("the tunnel of a disabled identity", await lost - at);
    await eventually(async () => (await ground.api("GET", path)).status === 404);
    for (const relay of ["relay1", "relay2", "relay3"] as const) {
      const { status } = await rogue.ask("client-2", ground.at(relay));
      assert.ok(status === 401 || status === 403, `${status}`);
    }
    await goesOn(dns);
  });

  await t.step("without an active policy there is no tunnel", async () => {
    assert.equal((await ground.api("DELETE", `/policies/${zgate!.id}`)).status, 409);
    assert.equal((await ground.api("POST", `/policies/${zgate!.id}/deactivate`)).status, 200);
    await eventually(async () => (await rogue.ask("client-1", ground.at("relay2"))).status === 403);
    assert.deepEqual(await activeVersions(), []);
  });
});

function within1s(what: string, milliseconds: number): void {
  assert.ok(milliseconds < 1_000, `${what}: ${Math.round(milliseconds)} ms`);
}

function lastTick({ lines }: ManagedProcess): number {
  return Number(/^tick (\d+) /.exec(lines.findLast((line) => line.startsWith("tick ")) ?? "")?.[1]);
}
