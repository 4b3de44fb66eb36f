/** How large a packet may be: what fits passes, what does not is answered, and the interface follows the path. */

import assert from "node:assert/strict";
import { eventually } from "../support/eventually.ts";
import { needsTool, needsTun, testNeeding } from "../support/require_tool.ts";
import { type GroundHost, INTERNET, TunnelGround } from "../support/tunnel_ground.ts";
import { TUNNEL_INTERFACE } from "../support/tunnel_hosts.ts";
import { download, ping, transferUdp } from "../support/tunnel_traffic.ts";

const NEEDS = [needsTun(), needsTool("gcc"), needsTool("ping"), needsTool("curl"), needsTool("nft")];
const WEB = [INTERNET.web, INTERNET.web6] as const;
const MIN_MTU = 1_280;
const MIB = 1 << 20;

testNeeding(NEEDS, "each agent's packets may be as large as its own path takes, both ways", async (t) => {
  await using ground = await TunnelGround.create();
  await ground.startRelay();
  // The second agent's access network takes less, and tells nobody.
  await ground.run("agent2", ["ip", "link", "set", "eth0", "mtu", "1400"]);
  await Promise.all([ground.startAgent("agent1"), ground.startAgent("agent2")]);
  const wide = await settledMtu(ground, "agent1", (mtu) => mtu >= 1_400);
  const narrow = await settledMtu(ground, "agent2", (mtu) => mtu > MIN_MTU);

  await t.step("the relay's interface takes what the widest tunnel takes", async () => {
    assert.ok(narrow < 1_360 && wide > 1_400 && wide < 1_440, `${narrow}, ${wide}`);
    await eventually(async () => await mtuOf(ground, "relay") === wide);
  });

  for (const [from, mtu] of [["agent1", wide], ["agent2", narrow]] as const) {
    await t.step(`${from}: a packet as large as the tunnel passes, one byte more is too big`, async () => {
      for (const to of WEB) {
        const fits = await ping(ground, { from, to, packetSize: mtu, dontFragment: true });
        assert.equal(fits.received, 4, fits.text);
        const over = await ping(ground, { from, to, packetSize: mtu + 1, dontFragment: true, count: 2 });
        assert.deepEqual([over.received, over.mtu], [0, mtu], over.text);
      }
    });

    await t.step(`${from}: larger packets that may be split arrive whole`, async () => {
      for (const to of WEB) {
        // The first answer may be what tells the far end the path's MTU.
        await ping(ground, { from, to, packetSize: 3_000, count: 2 });
        const { received, text } = await ping(ground, { from, to, packetSize: 3_000 });
        assert.equal(received, 4, text);
        const udp = await transferUdp(ground, { from, to, count: 100, size: 2_500 });
        assert.deepEqual([udp.corrupt, udp.duplicate], [0, 0]);
        assert.ok(udp.received >= 95, `${udp.received} of 100`);
      }
    });
  }

  await t.step("an answer too big for the tunnel of its agent is refused towards the internet", async () => {
    // The relay's interface takes such an answer: it is the tunnel itself that must refuse it.
    const from = "agent2", packetSize = 1_400;
    for (const version of ["-4", "-6"]) {
      await ground.run("internet", ["ip", version, "route", "flush", "cache"]);
    }

    // An IPv4 answer that may be split crosses, as large as it is.
    const split = await ping(ground, { from, to: INTERNET.web, packetSize });
    assert.equal(split.received, 4, split.text);
    assert.equal(await learnedMtu(ground, INTERNET.relaySeenAs), undefined);
    // UDP answers carry DF.
    const first = await transferUdp(ground, { from, to: INTERNET.web, count: 40, size: packetSize - 28 });
    assert.ok(first.received < 40, "the first answers were too big");
    assert.equal(await learnedMtu(ground, INTERNET.relaySeenAs), narrow);
    const then = await transferUdp(ground, { from, to: INTERNET.web, count: 40, size: packetSize - 28 });
    assert.deepEqual(then, { sent: 40, received: 40, corrupt: 0, duplicate: 0 });

    assert.equal(await learnedMtu(ground, INTERNET.relaySeenAs6), undefined);
    const one = await ping(ground, { from, to: INTERNET.web6, packetSize, count: 1 });
    assert.equal(one.received, 0, one.text);
    assert.equal(await learnedMtu(ground, INTERNET.relaySeenAs6), narrow);
    const more = await ping(ground, { from, to: INTERNET.web6, packetSize });
    assert.equal(more.received, 4, more.text);
  });

  await t.step("a packet too big for a link behind the relay is answered from there", async () => {
    await ground.run("relay", ["ip", "link", "set", "eth1", "mtu", "1300"]);
    for (const to of [INTERNET.other, INTERNET.other6]) {
      const over = await ping(ground, { from: "agent1", to, packetSize: 1_400, dontFragment: true });
      assert.deepEqual([over.received, over.mtu], [0, 1_300], over.text);
      assert.match(over.text, /From (10\.100\.0\.1|fd\S+::1) icmp_seq=1 /);
      const fits = await ping(ground, { from: "agent1", to, packetSize: 1_300, dontFragment: true });
      assert.equal(fits.received, 4, fits.text);
    }
    await ground.run("relay", ["ip", "link", "set", "eth1", "mtu", "1500"]);
  });
});

testNeeding(NEEDS, "over a path of 1,280 bytes packets of 1,280 bytes pass from the start", async (t) => {
  await using ground = await TunnelGround.create();
  await ground.narrowAccess(MIN_MTU);
  await ground.startRelay();
  await ground.startAgent("agent1");
  const from = "agent1";

  await t.step(
    "every size around that of the path's datagrams, right after the connection was made",
    async () => {
      assert.deepEqual(await lostSizes(ground, { to: INTERNET.web, first: 1_163, last: MIN_MTU }), []);
      assert.deepEqual(await lostSizes(ground, { to: INTERNET.web6, first: 1_163, last: MIN_MTU }), []);
    },
  );

  await t.step("the interface takes 1,280 bytes, no more and no less", async () => {
    assert.equal(await mtuOf(ground, from), MIN_MTU);
    assert.equal(await mtuOf(ground, "relay"), MIN_MTU);
    for (const to of WEB) {
      const over = await ping(ground, { from, to, packetSize: 1_400, dontFragment: true, count: 2 });
      assert.deepEqual([over.received, over.mtu], [0, MIN_MTU], over.text);
    }
  });

  await t.step("split packets and bulk cross it", async () => {
    for (const to of WEB) {
      await ping(ground, { from, to, packetSize: 3_000, count: 2 });
      const { received, text } = await ping(ground, { from, to, packetSize: 3_000 });
      assert.equal(received, 4, text);
      const bulk = await download(ground, { from, web: to, bytes: MIB });
      assert.ok(bulk.intact, bulk.text);
    }
  });
});

testNeeding(NEEDS, "the interface follows a path that gets narrower and wider", async (t) => {
  await using ground = await TunnelGround.create();
  await ground.startRelay();
  const agent = await ground.startAgent("agent1");
  const from = "agent1";
  await settledMtu(ground, from, (mtu) => mtu >= 1_400);

  await t.step("a path that got narrower is noticed by what is lost, and carries bulk again", async () => {
    await ground.narrowAccess(1_350);
    await eventually(async () => {
      await ping(ground, { from, to: INTERNET.web, packetSize: 1_340, count: 4 });
      return await mtuOf(ground, from) < 1_350;
    }, { timeout: 30_000 });
    assert.ok(await mtuOf(ground, from) >= MIN_MTU);
    for (const web of WEB) {
      const bulk = await download(ground, { from, web, bytes: MIB });
      assert.ok(bulk.intact, bulk.text);
    }
  });

  await t.step("a new connection has the narrower path's MTU from the start", async () => {
    await agent.stop();
    await using again = await ground.startAgent(from);
    const mtu = await settledMtu(ground, from, (mtu) => mtu < 1_350);
    assert.ok(mtu >= MIN_MTU);
    for (const to of WEB) {
      const fits = await ping(ground, { from, to, packetSize: mtu, dontFragment: true });
      assert.equal(fits.received, 4, fits.text);
    }
    assert.ok(again.running);
  });

  await t.step("and over a wider path a wider one", async () => {
    await ground.narrowAccess(1_500);
    await ground.startAgent(from);
    await settledMtu(ground, from, (mtu) => mtu >= 1_400);
  });
});

async function mtuOf(ground: TunnelGround, host: GroundHost): Promise<number> {
  const text = await ground.run(host, ["ip", "-json", "link", "show", TUNNEL_INTERFACE]);
  return JSON.parse(text)[0].mtu;
}

/** The MTU of a host's tunnel interface once it is as expected and the search for it is over. */
async function settledMtu(
  ground: TunnelGround,
  host: GroundHost,
  isExpected: (mtu: number) => boolean,
): Promise<number> {
  let before = 0, same = 0;
  return await eventually(async () => {
    const mtu = await mtuOf(ground, host);
    same = mtu === before ? same + 1 : 0;
    before = mtu;
    if (!isExpected(mtu)) throw new Error(`MTU ${mtu} of ${host}`);
    return same >= 5 && mtu;
  }, { timeout: 20_000, interval: 200 });
}

/** What the internet has learned about the path to an address. */
async function learnedMtu(ground: TunnelGround, address: string): Promise<number | undefined> {
  const [, mtu] = / mtu (\d+)/.exec(await ground.run("internet", ["ip", "route", "get", address])) ?? [];
  return mtu === undefined ? undefined : Number(mtu);
}

/** The packet sizes of which a single DF ping of agent1 was not answered. */
async function lostSizes(
  ground: TunnelGround,
  { to, first, last }: { readonly to: string; readonly first: number; readonly last: number },
): Promise<number[]> {
  const headers = to.includes(":") ? 48 : 28;
  const script =
    `for size in $(seq ${first} ${last}); do ping -n -q -c 1 -W 3 -M do -s $((size - ${headers})) ${to} >&2 || ` +
    "echo $size; done";
  const text = await ground.run("agent1", ["sh", "-c", script]);
  return text.split("\n").filter(Boolean).map(Number);
}
