/** Who reaches an agent through an IP tunnel: agents that a rule names it to, and from outside answers and errors about what it sent. */

import assert from "node:assert/strict";
import { utf8 } from "../../src/base/bytes.ts";
import { echo, icmpError, packet, tcp, udp } from "../dataplane/tunnel/packets.ts";
import { eventually } from "../support/eventually.ts";
import { needsTool, needsTun, testNeeding } from "../support/require_tool.ts";
import { Rogue, type RogueTunnel } from "../support/rogue.ts";
import { INTERNET, TunnelGround } from "../support/tunnel_ground.ts";
import { INTERNET_PORTS } from "../support/tunnel_internet.ts";
import { describePacket, sealed, textOf } from "../support/tunnel_packets.ts";

const NEEDS = [needsTun(), needsTool("nft")];
const ECHO = INTERNET_PORTS.echo;
const GATEWAY = "10.100.0.1";
const SYN = 2;

testNeeding(
  NEEDS,
  "agents reach each other only by rules that say so, and only in their direction",
  async () => {
    const rule = (type: string, destinations: readonly string[]) => ({
      rules: [
        { id: `${type}-rule`, type, action: "allow", destinations },
        { id: "internet", type: "ip_cidr", action: "allow", destinations: ["0.0.0.0/0", "::/0"] },
      ],
    });
    await using ground = await TunnelGround.create({
      egress: {
        version: "1.0",
        default_action: "allow",
        clients: {
          alice: rule("identity", ["agent/bob"]),
          bob: rule("fqdn", ["*.example.com"]),
          carol: { rules: [{ id: "everything", type: "default", action: "allow" }] },
          dave: rule("ip_cidr", ["10.100.0.0/24"]),
        },
      },
    });
    await ground.startRelay();
    await using rogue = await Rogue.start(ground, "agent1");
    const peers = new Map<string, RogueTunnel>();
    for (const name of ["alice", "bob", "carol", "dave"]) peers.set(name, await rogue.open(name));
    const got = async () => {
      const lines: string[] = [];
      for (const [name, tunnel] of peers) {
        for (const packet of await tunnel.packets()) lines.push(`${textOf(packet)} at ${name}`);
      }
      return lines;
    };
    const to = (
      from: string,
      name: string,
      version: 0 | 1,
      ports: { srcPort?: number; dstPort?: number } = {},
    ) =>
      sealed(udp({
        src: peers.get(from)!.addresses[version]!,
        dst: peers.get(name)!.addresses[version]!,
        data: utf8(`${from} v${version ? 6 : 4}`),
        ...ports,
      }));

    // Everybody to everybody else, those first who may not.
    for (const from of ["bob", "carol", "alice", "dave"]) {
      for (const name of peers.keys()) {
        if (name !== from) await peers.get(from)!.send(to(from, name, 0), to(from, name, 1));
      }
    }
    const expected = [
      "alice v4 at bob",
      "alice v6 at bob",
      ...["alice", "bob", "carol"].map((at) => `dave v4 at ${at}`),
    ];
    const seen: string[] = [];
    await eventually(async () => (seen.push(...await got()), seen.length >= expected.length));
    assert.deepEqual(seen.toSorted(), expected);

    // What bob answers passes by alice's right; what he begins does not, nor what only looks like an answer.
    const answer = { srcPort: 9_000, dstPort: 4_000 };
    await peers.get("bob")!.send(
      to("bob", "alice", 0, { srcPort: 9_001, dstPort: 4_000 }),
      to("bob", "alice", 0, { srcPort: 9_000, dstPort: 4_001 }),
      to("bob", "carol", 0, answer),
      to("bob", "alice", 1, answer),
      to("bob", "alice", 0, answer),
    );
    const answers: string[] = [];
    await eventually(async () => (answers.push(...await got()), answers.length >= 2));
    assert.deepEqual(answers, ["bob v6 at alice", "bob v4 at alice"]);

    // A rule for addresses of the pool opens the gateway too; no other does.
    for (const [from, dst] of [["carol", GATEWAY], ["alice", GATEWAY], ["dave", GATEWAY]] as const) {
      await peers.get(from)!.send(sealed(echo({ src: peers.get(from)!.addresses[0]!, dst })));
    }
    await eventually(async () =>
      (await peers.get("dave")!.packets()).map(describePacket).includes(`${GATEWAY} protocol 1: 0`)
    );
    for (const name of ["carol", "alice"]) assert.deepEqual(await peers.get(name)!.packets(), []);
  },
);

testNeeding(
  NEEDS,
  "the internet reaches an agent only with answers and with errors about what it sent",
  async () => {
    await using ground = await TunnelGround.create();
    await ground.allowForwarding();
    for (const pool of ["10.100.0.0/24", "fd99::/64"]) await ground.routeBack(pool);
    await ground.startRelay({ nat: "none", ipv6: "fd99::/64" });
    await using internet = await Rogue.start(ground, "internet");
    await using rogue = await Rogue.start(ground, "agent1");
    const peer = await rogue.open("peer");
    const other = await rogue.open("other");
    const received: string[] = [];
    const look = async (wanted: string) => {
      received.push(...(await peer.packets()).map(describePacket));
      return received.some((line) => line.endsWith(wanted));
    };

    for (
      const [remote, dst] of [[INTERNET.other, peer.addresses[0]!], [
        INTERNET.other6,
        peer.addresses[1]!,
      ]] as const
    ) {
      const src = remote;
      const asked = sealed(
        udp({ src: dst, dst: remote, srcPort: 4_000, dstPort: ECHO, data: utf8("asked") }),
      );
      await peer.send(asked);
      await eventually(() => look("asked"));
      received.length = 0;
      const never = udp({ src: dst, dst: remote, srcPort: 4_001, dstPort: ECHO });
      const ofOther = udp({ src: other.addressFor(dst), dst: remote, srcPort: 4_000, dstPort: ECHO });
      const tooBig = dst.includes(":") ? { type: 2, code: 0 } : { type: 3, code: 4 };
      const forged = [
        ...[ECHO + 1, 53].map((srcPort) => udp({ src, dst, srcPort, dstPort: 4_000, data: utf8("unasked") })),
        udp({ src, dst, srcPort: ECHO, dstPort: 4_001, data: utf8("unasked") }),
        udp({ src: dst.includes(":") ? INTERNET.web6 : INTERNET.web, dst, srcPort: ECHO, dstPort: 4_000 }),
        // A lone ACK is not among them: for two minutes a relay takes up connections that it may have forgotten.
        ...[SYN, 0x12, 4].map((flags) => tcp({ src, dst, srcPort: ECHO, dstPort: 4_000, flags })),
        echo({ src, dst }),
        echo({ src, dst, reply: true }),
        // Somebody outside who says he is the other agent, the gateway, or the agent itself.
        ...[other.addressFor(dst), dst.includes(":") ? "fd99::1" : GATEWAY, dst].map((src) =>
          udp({ src, dst, srcPort: ECHO, dstPort: 4_000, data: utf8("disguised") })
        ),
        icmpError({ src, dst, quoted: never }),
        icmpError({ src, dst, quoted: never, ...tooBig }),
        icmpError({ src, dst, quoted: ofOther, ...tooBig }),
        icmpError({ src, dst, quoted: udp({ src, dst, srcPort: ECHO, dstPort: 4_000 }), ...tooBig }),
        icmpError({ src, dst, quoted: asked.subarray(0, 12), ...tooBig }),
        packet({ src, dst, protocol: 47 }),
      ].map(sealed);
      assert.ok(
        await internet.inject(forged) >= forged.length - 1,
        "the kernel refuses none but its own addresses",
      );
      // A router that is on the way may say so: the error quotes what was sent.
      const quote = asked.slice();
      assert.equal(await internet.inject([sealed(icmpError({ src, dst, quoted: quote, ...tooBig }))]), 1);
      const kind = dst.includes(":") ? `${src} protocol 58: 2` : `${src} protocol 1: 3`;
      await eventually(() => look(kind));
      assert.deepEqual(received.splice(0), [kind]);
    }
  },
);
