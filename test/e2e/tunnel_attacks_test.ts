/** What a peer of an IP tunnel may not do, tried by one that sends packets of its own making: whatever it sends, and wherever. */

import assert from "node:assert/strict";
import { utf8 } from "../../src/base/bytes.ts";
import { echo, tcp, udp } from "../dataplane/tunnel/packets.ts";
import { eventually } from "../support/eventually.ts";
import { needsTool, needsTun, testNeeding } from "../support/require_tool.ts";
import { Rogue } from "../support/rogue.ts";
import { INTERNET, TunnelGround } from "../support/tunnel_ground.ts";
import { INTERNET_PORTS } from "../support/tunnel_internet.ts";
import { describePacket, sealed } from "../support/tunnel_packets.ts";

const NEEDS = [needsTun(), needsTool("nft")];
const PORT = 9_000;
const ECHO = INTERNET_PORTS.echo;
const GATEWAY = "10.100.0.1";
const SYN = 2;

testNeeding(NEEDS, "an agent sends from its own addresses and from no other", async () => {
  await using ground = await TunnelGround.create();
  const relay = await ground.startRelay();
  await using internet = await listening(ground, "internet", PORT);
  await using rogue = await Rogue.start(ground, "agent1");
  const victim = await rogue.open("victim");
  const mallory = await rogue.open("mallory");
  const [own4 = "", own6 = ""] = mallory.addresses;
  const foreign = [
    ...[...victim.addresses, GATEWAY, own6.replace(/2$|3$/, "1")],
    ...[INTERNET.dns, INTERNET.dns6, "10.100.0.77", "10.77.0.3", "127.0.0.1", "::1", "0.0.0.0", "::"],
    ...["255.255.255.255", "224.0.0.1", `::ffff:${own4}`],
  ];
  const attempts = foreign.flatMap((src) =>
    [outsideOf(src), src.includes(":") ? victim.addresses[1]! : victim.addresses[0]!, src].map((dst) =>
      sealed(udp({ src, dst, dstPort: PORT, data: utf8(`as ${src} to ${dst}`) }))
    )
  );
  assert.equal(await mallory.send(...attempts), attempts.length);
  await mallory.send(greeting(own4, "own"), greeting(own6, "own"));

  const heard: string[] = [];
  await eventually(async () => {
    heard.push(...(await internet.heard()).map(({ from, text }) => `${text} from ${from}`));
    return heard.length >= 2;
  });
  assert.deepEqual(heard.toSorted(), [
    `own from ${INTERNET.relaySeenAs6}`,
    `own from ${INTERNET.relaySeenAs}`,
  ]);
  assert.deepEqual(await victim.packets(), []);
  await mallory.close();
  const [line] = await relay.waitForLine(/^.*"tunnel_closed".*agent\/mallory.*$/);
  const { spoofed_source, bad_header } = JSON.parse(line);
  assert.equal(spoofed_source + bad_header, attempts.length);
  assert.equal(bad_header, 3, "an IPv6 form of an IPv4 address is no source at all");
});

for (const nat of ["masquerade", "none"] as const) {
  testNeeding(
    NEEDS,
    `NAT ${nat}: a policy that allows 0.0.0.0/0 opens neither the relay's host nor what is never routed`,
    async () => {
      await using ground = await TunnelGround.create();
      await ground.allowForwarding();
      await ground.routeBack("10.100.0.0/24");
      await ground.startRelay({ nat, ipv6: "fd99::/64" }, { health: "0.0.0.0:8080" });
      await ground.routeBack("fd99::/64");
      await using host = await listening(ground, "relay", 22);
      await using rogue = await Rogue.start(ground, "agent1");
      const mallory = await rogue.open("mallory");
      const links = await ground.run("relay", ["ip", "-6", "-brief", "addr", "show", "scope", "link"]);
      const linkLocal = [...links.matchAll(/fe80::[0-9a-f:]+/g)].map(([address]) => address);
      assert.ok(linkLocal.length >= 2, links);
      const targets = [
        ...["127.0.0.1", "127.9.9.9", "169.254.169.254", "224.0.0.1", "255.255.255.255", "0.0.0.0"],
        ...["::1", "::", "ff02::1", "fe80::1", ...linkLocal],
        ...["::ffff:203.0.113.2", "64:ff9b::7f00:1", "::127.0.0.1"],
        ...[GATEWAY, "fd99::1", "10.77.0.3", "fd77::3", INTERNET.relaySeenAs, INTERNET.relaySeenAs6],
        ...["10.77.0.255", "10.77.0.0", "203.0.113.255", "203.0.113.0", "10.100.0.255", "10.100.0.0"],
      ];
      const attempts = targets.flatMap((dst) => {
        const src = mallory.addressFor(dst);
        return [
          udp({ src, dst, dstPort: 22, data: utf8(`to ${dst}`) }),
          ...[22, 8_080, 4_433].map((dstPort) => tcp({ src, dst, dstPort, flags: SYN })),
          echo({ src, dst }),
        ].map(sealed);
      });
      await mallory.send(...attempts);
      // Behind the others on every way: once this is answered, so are those that are.
      await mallory.send(greeting(mallory.addressFor(INTERNET.other), "last", ECHO));
      const answers: string[] = [];
      await eventually(async () => {
        answers.push(...(await mallory.packets()).map(describePacket));
        return answers.some((answer) => answer.endsWith("last"));
      });
      assert.deepEqual(answers, [`${INTERNET.other} protocol 17: last`]);

      await ground.run("internet", ["bash", "-c", `echo beside > /dev/udp/${INTERNET.relaySeenAs}/22`]);
      const heard = await eventually(async () => {
        const texts = (await host.heard()).map(({ text }) => text.trim());
        return texts.length > 0 && texts;
      });
      assert.deepEqual(heard, ["beside"], "only the one who may has reached the relay's host");
    },
  );
}

function outsideOf(src: string): string {
  return src.includes(":") ? INTERNET.other6 : INTERNET.other;
}

function greeting(src: string, text: string, dstPort = PORT): Uint8Array<ArrayBuffer> {
  return sealed(udp({ src, dst: outsideOf(src), dstPort, data: utf8(text) }));
}

async function listening(ground: TunnelGround, host: "internet" | "relay", port: number): Promise<Rogue> {
  const rogue = await Rogue.start(ground, host);
  await rogue.listen("::", port);
  return rogue;
}
