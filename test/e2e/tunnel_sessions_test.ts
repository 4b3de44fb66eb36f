/** Who gets an IP tunnel with which addresses, and how long: pools, leases, reservations, takeover, rights that end. */

import assert from "node:assert/strict";
import { utf8 } from "../../src/base/bytes.ts";
import { udp } from "../dataplane/tunnel/packets.ts";
import { pingThrough } from "../support/bystander.ts";
import { PROGRAM, RELAY_NAME } from "../support/deployment.ts";
import { eventually } from "../support/eventually.ts";
import { needsTool, needsTun, testNeeding } from "../support/require_tool.ts";
import { Rogue, type RogueTunnel } from "../support/rogue.ts";
import { type EgressSource, INTERNET, TunnelGround } from "../support/tunnel_ground.ts";
import { INTERNET_PORTS } from "../support/tunnel_internet.ts";
import { sealed, textOf } from "../support/tunnel_packets.ts";
import { ping } from "../support/tunnel_traffic.ts";

const NEEDS = [needsTun(), needsTool("ping"), needsTool("nft")];
const ECHO = INTERNET_PORTS.echo;
const SECONDS_PER_DAY = 86_400;

testNeeding(NEEDS, "a full pool refuses with 503 and a reason, until a lease is released", async () => {
  await using ground = await TunnelGround.create();
  await ground.startRelay({ ipv4: "10.100.0.0/30", ipv6: null });
  const first = await ground.startAgent("agent1");
  assert.deepEqual(await ground.tunnelAddresses("agent1"), ["10.100.0.2"]);

  await using rogue = await Rogue.start(ground, "agent2");
  const refused = await rogue.ask("agent-3");
  assert.equal(refused.status, 503);
  assert.match(refused.proxyStatus, /error=destination_unavailable.*address pool exhausted/);
  const second = await ground.startAgent("agent2", { untilUp: false });
  await second.waitForLine(/"warn".*"tunnel_refused".*503.*address pool exhausted/);
  assert.deepEqual(await ground.tunnelAddresses("agent2"), []);
  assert.ok((await auditOf(ground, "agent-2")).some(({ reason }) => reason === "pool_exhausted"));

  // Who is away keeps its address for its lease's time; only then, or when somebody says so, another gets it.
  await first.stop();
  assert.equal((await rogue.ask("agent-3")).status, 503);
  assert.match(await leases(ground, "release", "agent-1"), /Released 10\.100\.0\.2 of .*agent\/agent-1/);
  await eventually(async () => (await ground.tunnelAddresses("agent2"))[0] === "10.100.0.2", {
    timeout: 30_000,
  });
  assert.equal((await ping(ground, { from: "agent2", to: INTERNET.web })).received, 4);

  // Released while it is connected, it loses its tunnel, and gets what is free then.
  const lost = second.waitForLine(/"tunnel_lost"/);
  await leases(ground, "release", "agent/agent-2");
  await lost;
  await eventually(async () => /agent\/agent-2 +10\.100\.0\.2/.test(await leases(ground)));
});

testNeeding(
  NEEDS,
  "an identity keeps its addresses over reconnects and over a relay that was killed",
  async () => {
    await using ground = await TunnelGround.create();
    const reservations = { "agent/bob": ["10.100.0.50"], carol: ["10.100.0.3", "fd99::77"] };
    const tunnel = { reservations, ipv6: "fd99::/64" };
    const relay = await ground.startRelay(tunnel);
    const given = new Map<string, readonly string[]>();
    {
      await using rogue = await Rogue.start(ground, "agent1");
      for (const name of ["alice", "bob", "carol", "dave"]) {
        given.set(name, (await rogue.open(name)).addresses);
      }
    }
    assert.equal(given.get("bob")?.[0], "10.100.0.50");
    assert.deepEqual(given.get("carol"), ["10.100.0.3", "fd99::77"]);
    const taken = new Set([...given.values()].flat());
    assert.equal(taken.size, 8, "nobody has another's address");

    await relay.stop({ signal: "SIGKILL" });
    await ground.startRelay(tunnel);
    await using rogue = await Rogue.start(ground, "agent2");
    // In another order, and with a newcomer first.
    const newcomer = await rogue.open("newcomer");
    assert.ok(newcomer.addresses.every((address) => !taken.has(address)), `${newcomer.addresses}`);
    for (const [name, addresses] of [...given].reverse()) {
      const tunnel = await rogue.open(name);
      assert.deepEqual(tunnel.addresses, addresses, name);
      await tunnel.close();
      assert.deepEqual((await rogue.open(name)).addresses, addresses, `${name} once more`);
    }
  },
);

testNeeding(
  NEEDS,
  "who connects a second time takes over: same addresses, flows that go on, an end for the first",
  async () => {
    await using ground = await TunnelGround.create();
    await ground.startRelay();
    await using here = await Rogue.start(ground, "agent1");
    await using there = await Rogue.start(ground, "agent2");
    const first = await here.open("alice");
    const say = (text: string) =>
      sealed(udp({
        ...{ src: first.addresses[0]!, dst: INTERNET.web, srcPort: 4_000, dstPort: ECHO },
        data: utf8(text),
      }));
    await first.send(say("first"));
    await hears(first, "first");

    const second = await there.open("alice");
    assert.deepEqual(second.addresses, first.addresses);
    await first.untilEnded();
    await first.send(say("from the grave"));
    await second.send(say("second"));
    await hears(second, "second");
    assert.deepEqual((await first.packets()).map(textOf), []);
    await first.close();
    await second.send(say("still"));
    assert.deepEqual(await hears(second, "still"), ["still"]);
    const flows = (await auditOf(ground, "alice")).filter(({ event, service }) =>
      event === "connect" && service === `udp/${INTERNET.web}:${ECHO}`
    );
    assert.equal(flows.length, 1, "one flow, from the first to the second");
  },
);

testNeeding(
  NEEDS,
  "no entry, no tunnel: 403 for whoever has none, the end within a moment for whoever loses it",
  async () => {
    await using ground = await TunnelGround.create({ egress: entriesFor("alice", "bob") });
    await ground.startRelay();
    await using rogue = await Rogue.start(ground, "agent1");
    const refused = await rogue.ask("mallory");
    assert.equal(refused.status, 403);
    assert.match(refused.proxyStatus, /http_request_denied/);
    assert.ok(
      (await auditOf(ground, "mallory")).some(({ event, reason }) =>
        event === "deny" && reason === "no_rules"
      ),
    );

    const alice = await rogue.open("alice");
    const bob = await rogue.open("bob");
    const changed = performance.now();
    await ground.writeEgress(entriesFor("alice", "mallory"));
    const end = await bob.untilEnded();
    const took = performance.now() - changed;
    assert.ok(took < 3_000, `bob's tunnel ended after ${took} ms`);
    assert.ok(!end.startsWith("connection closed"), "it ends the tunnel, not the connection");
    assert.equal((await rogue.ask("bob")).status, 403);
    assert.equal(await pingThrough(alice, INTERNET.web), true);
    await rogue.open("mallory");
  },
);

testNeeding(NEEDS, "who delays the answer until its right is gone gets no tunnel", async () => {
  await using ground = await TunnelGround.create();
  const script = new URL("../support/late_answer.ts", import.meta.url).pathname;
  for (const [taken, fate] of [["nothing", "served"], ["entry", "ended"], ["lease", "ended"]] as const) {
    await ground.writeEgress(entriesFor("alice"));
    const command = [
      Deno.execPath(),
      "run",
      "--quiet",
      "--no-check",
      "--allow-all",
      "--unstable-net",
      script,
    ];
    assert.equal(
      (await ground.run("relay", [...command, ground.deployment.folder, taken])).trim(),
      fate,
      taken,
    );
  }
});

testNeeding(NEEDS, "a tunnel ends with the certificate it was opened with", async () => {
  await using ground = await TunnelGround.create();
  await ground.startRelay();
  await using rogue = await Rogue.start(ground, "agent1");
  const lasting = await rogue.open("lasting");
  const expires = Date.now() + 6_000;
  const identity = await ground.deployment.issue("agent", "brief", { days: 6 / SECONDS_PER_DAY });
  const brief = await rogue.open("brief", { identity });
  assert.equal(await pingThrough(brief, INTERNET.web), true);
  assert.match(await brief.untilEnded(), /certificate expired/);
  assert.ok(Date.now() >= expires - 1_000, "not before its time; certificates count whole seconds");
  assert.equal(await pingThrough(lasting, INTERNET.web), true);
});

function entriesFor(...names: readonly string[]): EgressSource {
  const rules = [{ id: "all", type: "ip_cidr", action: "allow", destinations: ["0.0.0.0/0", "::/0"] }];
  return { version: "1.0", clients: Object.fromEntries(names.map((name) => [name, { rules }])) };
}

/** Resolves with the texts that came, once the wanted one is among them. */
async function hears(tunnel: RogueTunnel, wanted: string): Promise<string[]> {
  const texts: string[] = [];
  await eventually(async () => {
    texts.push(...(await tunnel.packets()).map(textOf));
    return texts.includes(wanted);
  });
  return texts;
}

/** Runs `ginnel leases` on the relay's host. */
function leases(ground: TunnelGround, ...words: readonly string[]): Promise<string> {
  const config = `${ground.deployment.folder}/${RELAY_NAME}.config.json`;
  return ground.run("relay", [...PROGRAM, "leases", ...words, "--config", config]);
}

interface AuditLine {
  readonly event: string;
  readonly service: string;
  readonly reason: string;
}

async function auditOf(ground: TunnelGround, name: string): Promise<AuditLine[]> {
  const who = `spiffe://test.example/agent/${name}`;
  return await eventually(async () => {
    const text = await Deno.readTextFile(`${ground.deployment.folder}/audit.jsonl`);
    const lines = text.trimEnd().split("\n").map((line) => JSON.parse(line)).filter((line) =>
      line.who === who
    );
    return lines.length > 0 && lines;
  });
}
