/** Peers of an IP tunnel that send garbage and floods, or read nothing: it costs them, and nobody else. */

import assert from "node:assert/strict";
import { udp } from "../dataplane/tunnel/packets.ts";
import { Bystander, pingThrough } from "../support/bystander.ts";
import { eventually } from "../support/eventually.ts";
import { malformedPackets } from "../support/malformed_packets.ts";
import { needsTool, needsTun, testNeeding } from "../support/require_tool.ts";
import { Rogue, type RogueTunnel } from "../support/rogue.ts";
import { INTERNET, TunnelGround } from "../support/tunnel_ground.ts";
import { INTERNET_PORTS } from "../support/tunnel_internet.ts";
import { sendRawGarbage } from "../support/tunnel_traffic.ts";

const NEEDS = [needsTun(), needsTool("gcc"), needsTool("ping"), needsTool("nft")];
const PIECES = 1_000;
const MIB = 1 << 20;
/** The audit log takes that many refusals of one peer at once, and so many a second later on. */
const REFUSALS = { burst: 50, perSecond: 5 };

/** Everybody may go to the web server and to its echo service, and nowhere else. */
const EGRESS = {
  version: "1.0",
  clients: {
    "#all": {
      rules: [{ id: "web", type: "ip_cidr", action: "allow", destinations: [INTERNET.web, INTERNET.web6] }],
    },
  },
};

testNeeding(
  NEEDS,
  "garbage from peers and from outside ends nothing, fills no log, and costs others no packet",
  async (t) => {
    await using ground = await TunnelGround.create({ egress: EGRESS });
    const relay = await ground.startRelay({}, { log: { level: "info" } });
    const agent = await ground.startAgent("agent2");
    const [bystanders = ""] = await ground.tunnelAddresses("agent2");
    await using bystander = await Bystander.start(ground, { from: "agent2", to: INTERNET.web });
    await using rogue = await Rogue.start(ground, "agent1");
    const mallory = await rogue.open("mallory");
    const [own4 = "", own6 = ""] = mallory.addresses;
    const garbage = malformedPackets({
      source: [own4, own6],
      destination: [INTERNET.other, INTERNET.other6],
    }, PIECES);
    const payloads = garbage.map((packet) => new Uint8Array([0, ...packet]));
    const started = performance.now();

    await t.step("in datagrams of a peer", async () => {
      const contexts = [[], [0x40], [0x40, 1], [2], [63], [0xc0, 0, 0], [0x80, 0, 0, 9], [255]];
      await mallory.sendPayloads(contexts.map((context) => Uint8Array.from(context)));
      assert.ok(await mallory.sendPayloads(payloads) > 0);
      await bystander.answered(3);
    });

    await t.step("in capsules of a peer", async () => {
      await mallory.sendCapsules(payloads);
      await bystander.answered(3);
    });

    await t.step("from the relay's own host, to an agent", async () => {
      const load = { on: "relay", source: INTERNET.web, to: bystanders, count: PIECES } as const;
      assert.ok(await sendRawGarbage(ground, load) > PIECES / 2);
      await bystander.answered(3);
    });

    await t.step("from an agent's own host, into its tunnel", async () => {
      const load = { on: "agent2", source: bystanders, to: INTERNET.web, count: PIECES } as const;
      assert.ok(await sendRawGarbage(ground, load) > PIECES / 2);
      await bystander.answered(3);
    });

    await t.step("all of it is counted, little of it is written down", async () => {
      assert.equal(await pingThrough(mallory, INTERNET.web), true, "its tunnel is open");
      await mallory.close();
      const [line] = await relay.waitForLine(/^.*"tunnel_closed".*agent\/mallory.*$/);
      const { unauditedRefusals: _, ...rest } = JSON.parse(line);
      const drops = Object.values(rest).filter((value) => typeof value === "number");
      const dropped = drops.reduce((sum, value) => sum + value, 0);
      assert.ok(dropped >= PIECES, `${dropped} of what came in capsules: ${line}`);
      for (
        const reason of ["bad_version", "truncated", "bad_length", "bad_checksum", "bad_header", "denied"]
      ) {
        assert.ok(rest[reason] > 0, `${reason}: ${line}`);
      }
      const seconds = (performance.now() - started) / 1_000;
      const bound = REFUSALS.burst + REFUSALS.perSecond * Math.ceil(seconds);
      const denials = (await auditOf(ground, "mallory")).filter(({ event }) => event === "deny").length;
      assert.ok(denials > 0 && denials <= bound, `${denials} of mallory in ${seconds} s`);
      // What an agent's host sends to where it may is a flow each at most.
      assert.ok((await auditOf(ground, "agent-2")).length < PIECES);
      for (const node of [relay, agent]) {
        assert.ok(node.running);
        const lines = node.lines.filter((line) => !line.includes('"debug"')).length;
        assert.ok(lines < 20 + 6 * seconds, node.lines.join("\n"));
      }
    });
  },
);

testNeeding(NEEDS, "10,000 flows of one peer leave the others theirs, and it its next one", async () => {
  await using ground = await TunnelGround.create({ egress: EGRESS });
  const relay = await ground.startRelay({}, { log: { level: "info" } });
  await ground.startAgent("agent2");
  await using bystander = await Bystander.start(ground, { from: "agent2", to: INTERNET.web });
  await using rogue = await Rogue.start(ground, "agent1");
  const started = performance.now();
  const peers: RogueTunnel[] = [];
  for (const [name, dst] of [["allowed", INTERNET.web], ["denied", INTERNET.other]] as const) {
    const peer = await rogue.open(name);
    peers.push(peer);
    const src = peer.addresses[0]!;
    const flows = Array.from(
      { length: 10_000 },
      (_, index) => udp({ src, dst, srcPort: 2_000 + index, dstPort: 9 }),
    );
    const before = relay.usage().rssBytes;
    for (let at = 0; at < flows.length; at += 1_000) await peer.send(...flows.slice(at, at + 1_000));
    await bystander.answered(3);
    assert.equal(await pingThrough(peer, INTERNET.web), true, `${name} is served`);
    assert.ok(relay.usage().rssBytes - before < 150 * MIB, "memory stays bounded");
  }
  const denials = (await auditOf(ground, "denied")).filter(({ event }) => event === "deny").length;
  const bound = REFUSALS.burst + REFUSALS.perSecond * Math.ceil((performance.now() - started) / 1_000);
  assert.ok(denials > 0 && denials <= bound, `${denials} refusals were audited`);
  // What is not in the audit log by itself is there as a number.
  await peers.at(-1)!.close();
  const [, unaudited] = await relay.waitForLine(/"tunnel_closed".*agent\/denied.*"unauditedRefusals":(\d+)/);
  assert.ok(Number(unaudited) > 5_000, `${unaudited} were not`);
  await bystander.answered(1);
});

testNeeding(NEEDS, "peers that do not read lose their own packets, and nobody else any", async (t) => {
  await using ground = await TunnelGround.create({ egress: EGRESS });
  const relay = await ground.startRelay({}, { log: { level: "info" } });
  await ground.startAgent("agent2");
  await using bystander = await Bystander.start(ground, { from: "agent2", to: INTERNET.web });
  await using rogue = await Rogue.start(ground, "agent1");
  const before = relay.usage().rssBytes;
  const data = new Uint8Array(1_100);
  const asking = (src: string) => {
    const question = udp({ src, dst: INTERNET.web, srcPort: 3_000, dstPort: INTERNET_PORTS.echo, data });
    return Array.from({ length: 500 }, () => question);
  };

  await t.step("all that comes waits on a stream that it does not read", async () => {
    // Told its addresses by another tunnel of the same name, since it reads nothing.
    const { addresses: [src = ""] } = await rogue.open("sink");
    const sink = await rogue.open("sink", { carrier: "tls", reads: false });
    const payloads = asking(src).map((packet) => new Uint8Array([0, ...packet]));
    // Until the buffers between us are full, however large.
    await eventually(async () => {
      await sink.sendCapsules(payloads);
      return relay.lines.some((line) => /"tunnel_drops".*agent\/sink.*"link_full":\d/.test(line));
    }, { timeout: 30_000 });
    await bystander.answered(5);
  });

  await t.step("all that comes is for a process that stands still", async () => {
    await using frozen = await Rogue.start(ground, "agent1");
    const tunnel = await frozen.open("frozen");
    await tunnel.send(...asking(tunnel.addresses[0]!));
    frozen.process.signal("SIGSTOP");
    await bystander.answered(10);
    frozen.process.signal("SIGCONT");
    assert.equal(await pingThrough(tunnel, INTERNET.web), true);
  });
  assert.ok(relay.usage().rssBytes - before < 150 * MIB, "memory stays bounded");
});

async function auditOf(ground: TunnelGround, name: string): Promise<{ readonly event: string }[]> {
  const text = await Deno.readTextFile(`${ground.deployment.folder}/audit.jsonl`);
  return text.trimEnd().split("\n").map((line) => JSON.parse(line)).filter(({ who }) =>
    who === `spiffe://test.example/agent/${name}`
  );
}
