/** What a connect-ip request limits itself to, and tunnels over the TLS carrier, which has no datagrams. */

import assert from "node:assert/strict";
import { utf8 } from "../../src/base/bytes.ts";
import { decodeAddressAssign } from "../../src/wire/capsule/connect_ip.ts";
import { echo, facts, tcp, udp } from "../dataplane/tunnel/packets.ts";
import { Bystander } from "../support/bystander.ts";
import { eventually } from "../support/eventually.ts";
import { needsTool, needsTun, testNeeding } from "../support/require_tool.ts";
import { CAPSULE, type OpenOptions, Rogue, type RogueTunnel } from "../support/rogue.ts";
import { INTERNET, TunnelGround } from "../support/tunnel_ground.ts";
import { INTERNET_PORTS } from "../support/tunnel_internet.ts";
import { describePacket, sealed } from "../support/tunnel_packets.ts";

const NEEDS = [needsTun(), needsTool("ping"), needsTool("nft")];
const ECHO = INTERNET_PORTS.echo;
const SYN = 2;
const NO_ROUTE = "10.100.0.1 protocol 1: 3";
const [ICMP_REPLY, UDP_REPLY, TCP_REPLY] = [
  "protocol 1: 0",
  "protocol 17: hello",
  `protocol 6: ${ECHO >> 8}`,
];

testNeeding(NEEDS, "a request's target and protocol limit its routes and its packets", async (t) => {
  await using ground = await TunnelGround.create();
  await ground.writeNames({
    "web.example": { alias: "host.example", ttl: 60 },
    "host.example": { addresses: [INTERNET.web, INTERNET.web6], ttl: 60 },
  });
  await ground.startRelay();
  await using rogue = await Rogue.start(ground, "agent1");
  const open = (options: Partial<OpenOptions>) => rogue.open("alice", options);
  const everything = async (tunnel: RogueTunnel, dst: string, wanted: number) =>
    (await answers(tunnel, probes(tunnel, dst), wanted)).toSorted();
  const all = (address: string) =>
    [ICMP_REPLY, UDP_REPLY, TCP_REPLY].map((reply) => `${address} ${reply}`).toSorted();
  const none = [NO_ROUTE, NO_ROUTE, NO_ROUTE];

  await t.step("everything", async () => {
    const tunnel = await open({});
    assert.deepEqual(tunnel.routes, ["0.0.0.0/0", "::/0"]);
    assert.deepEqual(await everything(tunnel, INTERNET.web, 3), all(INTERNET.web));
  });

  await t.step("a prefix", async () => {
    const tunnel = await open({ target: "198.51.100.0/28" });
    assert.deepEqual(tunnel.routes, ["198.51.100.0/28"]);
    assert.deepEqual(await everything(tunnel, INTERNET.web, 3), all(INTERNET.web));
    assert.deepEqual(await everything(tunnel, INTERNET.other, 3), none);
  });

  await t.step("an IPv6 address", async () => {
    const tunnel = await open({ target: INTERNET.web6 });
    assert.deepEqual(tunnel.routes, [`${INTERNET.web6}/128`]);
    const ping = (dst: string) => sealed(echo({ src: tunnel.addressFor(dst), dst }));
    const seen = await answers(tunnel, [ping(INTERNET.other6), ping(INTERNET.web6)], 2);
    assert.match(seen.join(), /::1 protocol 58: 1,.*2001:db8:100::10 protocol 58: 129/);
  });

  await t.step("a host name, resolved by the relay", async () => {
    const tunnel = await open({ target: "web.example" });
    assert.deepEqual(tunnel.routes, [`${INTERNET.web}/32`, `${INTERNET.web6}/128`]);
    assert.deepEqual(await everything(tunnel, INTERNET.web, 3), all(INTERNET.web));
    assert.deepEqual(await everything(tunnel, INTERNET.other, 3), none);
    const unknown = await rogue.ask("alice", { target: "nothing.example" });
    assert.equal(unknown.status, 502);
    assert.match(unknown.proxyStatus, /dns_error/);
  });

  await t.step("a protocol", async () => {
    const tunnel = await open({ ipproto: 6 });
    assert.deepEqual(tunnel.routes, ["0.0.0.0/0 6", "::/0 6"]);
    const seen = await everything(tunnel, INTERNET.web, 3);
    // RFC 9484 §4.7.3: ICMP is allowed whatever the protocol is.
    assert.deepEqual(seen, [NO_ROUTE, ...[ICMP_REPLY, TCP_REPLY].map((reply) => `${INTERNET.web} ${reply}`)]);
  });

  await t.step("a target that no rule allows: a tunnel without routes", async () => {
    const rules = [{ id: "web", type: "ip_cidr", action: "allow", destinations: [INTERNET.web] }];
    await ground.writeEgress({ version: "1.0", clients: { "#all": { rules } } });
    const tunnel = await eventually(async () => {
      const opened = await open({ target: INTERNET.other });
      return opened.routes.length === 0 && opened;
    });
    assert.deepEqual(await everything(tunnel, INTERNET.web, 3), none);
    const probe = probes(tunnel, INTERNET.web).slice(0, 1);
    assert.deepEqual(await answers(tunnel, [...probes(tunnel, INTERNET.other), ...probe], 1), [NO_ROUTE]);
  });
});

testNeeding(
  NEEDS,
  "who asks for addresses is told those it has; of a version without pool, none",
  async () => {
    await using ground = await TunnelGround.create();
    await ground.startRelay({ ipv6: null });
    await using rogue = await Rogue.start(ground, "agent1");
    const tunnel = await rogue.open("alice");
    assert.deepEqual(tunnel.addresses, ["10.100.0.2"]);
    const wish4 = [4, 10, 100, 0, 99, 32], wish6 = [6, ...new Array(16).fill(0), 128];
    await tunnel.capsule(CAPSULE.request, Uint8Array.of(7, ...wish4, 9, ...wish6));
    const list = await eventually(async () => {
      await tunnel.look();
      const [, answer] = tunnel.capsules.filter(({ type }) => type === CAPSULE.assign);
      return answer && decodeAddressAssign(answer.value);
    });
    assert.deepEqual(
      list.map((
        { requestId, address, prefixLength },
      ) => [requestId, address.version, address.value, prefixLength]),
      [[7, 4, 0x0a640002n, 32], [9, 6, 0n, 128]],
    );
  },
);

testNeeding(
  NEEDS,
  "over the TLS carrier packets travel in capsules, both ways and up to the tunnel's MTU",
  async () => {
    await using ground = await TunnelGround.create();
    await ground.startRelay();
    await ground.startAgent("agent2");
    await using bystander = await Bystander.start(ground, { from: "agent2", to: INTERNET.web });
    await using rogue = await Rogue.start(ground, "agent1");
    const tunnel = await rogue.open("alice", { carrier: "tls" });
    for (const dst of [INTERNET.web, INTERNET.web6]) {
      const src = tunnel.addressFor(dst);
      const headers = dst.includes(":") ? 48 : 28;
      for (const size of [headers, 576, 1_280]) {
        await tunnel.sendCapsules([Uint8Array.of(0, ...sealed(echo({ src, dst, size: size - headers })))]);
        const [answer] = await eventually(async () => {
          const packets = await tunnel.packets();
          return packets.length > 0 && packets;
        });
        assert.equal(facts(answer!).length, size);
        assert.equal(
          describePacket(answer!),
          `${dst} ${dst.includes(":") ? "protocol 58: 129" : ICMP_REPLY}`,
        );
      }
    }
    const spoofed = sealed(
      udp({ src: "10.100.0.77", dst: INTERNET.web, dstPort: ECHO, data: utf8("spoofed") }),
    );
    const own = sealed(
      udp({ src: tunnel.addresses[0]!, dst: INTERNET.web, dstPort: ECHO, data: utf8("hello") }),
    );
    await tunnel.sendCapsules([spoofed, own].map((packet) => Uint8Array.of(0, ...packet)));
    await eventually(async () =>
      (await tunnel.packets()).map(describePacket).includes(`${INTERNET.web} ${UDP_REPLY}`)
    );
    assert.equal(await tunnel.send(own), 0, "the carrier has no datagrams");
    await bystander.answered(2);
  },
);

/** A ping, a datagram and the beginning of a connection. */
function probes(tunnel: RogueTunnel, dst: string): Uint8Array<ArrayBuffer>[] {
  const src = tunnel.addressFor(dst);
  return [
    echo({ src, dst }),
    udp({ src, dst, dstPort: ECHO, data: utf8("hello") }),
    tcp({ src, dst, dstPort: ECHO, flags: SYN }),
  ].map(sealed);
}

/** Sends packets and resolves with what came back, once it is as many. */
async function answers(
  tunnel: RogueTunnel,
  packets: readonly Uint8Array[],
  count: number,
): Promise<string[]> {
  await tunnel.packets();
  await tunnel.send(...packets);
  const seen: string[] = [];
  await eventually(
    async () => (seen.push(...(await tunnel.packets()).map(describePacket)), seen.length >= count),
  );
  return seen;
}
