import assert from "node:assert/strict";
import { formatPrefix } from "../../../src/base/ip.ts";
import { testNeeding } from "../../support/require_tool.ts";
import { countedCommands, type Ground, NEEDS, onGround } from "./ground.ts";
import { listeningLogger } from "./fakes.ts";
import { ip, prefix, TUNNEL } from "./values.ts";

const FULL = ["0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1"].map(prefix);
const RELAYS = [ip("192.0.2.5"), ip("fd99::5")];

testNeeding(NEEDS, "a full tunnel takes everything but its relays", () =>
  onGround(async (ground) => {
    await using network = await up(ground);
    await network.routes.apply(FULL, RELAYS);
    for (const [address, device] of Object.entries(WAYS)) {
      assert.equal(await wayTo(ground, address), device, address);
    }
    await network.routes.close();
    for (const address of Object.keys(WAYS)) {
      assert.equal(await wayTo(ground, address), "eth0", address);
    }
  }));

const WAYS = {
  "198.51.100.1": TUNNEL,
  "9.9.9.9": TUNNEL,
  "fd98::1": TUNNEL,
  "192.0.2.5": "eth0",
  "fd99::5": "eth0",
};

testNeeding(NEEDS, "a split tunnel pins no relay that it does not catch", () =>
  onGround(async (ground) => {
    await using network = await up(ground);
    await network.routes.apply([prefix("198.51.100.0/24")], RELAYS);
    assert.equal(await ours(ground), `198.51.100.0/24 dev ${TUNNEL} scope link linkdown`);
    await network.routes.apply([prefix("192.0.2.0/24")], RELAYS);
    assert.equal(
      await ours(ground),
      `192.0.2.0/24 dev ${TUNNEL} scope link linkdown; 192.0.2.5 via 10.77.0.2 dev eth0 onlink`,
    );
  }));

testNeeding(
  NEEDS,
  "refreshPins() follows the gateway, and touches nothing where it did not move",
  () =>
    onGround(async (ground) => {
      const { commands, writes } = countedCommands();
      await using network = await up(ground, { commands });
      await network.routes.apply(FULL, RELAYS);
      const count = writes.length;
      await network.routes.refreshPins();
      assert.equal(writes.length, count);
      await ground.shell(
        "ip route replace default via 10.77.0.9 dev eth0; ip route replace default via fd77::9 dev eth0",
      );
      await network.routes.refreshPins();
      assert.match(await ours(ground), /192\.0\.2\.5 via 10\.77\.0\.9.*fd99::5 via fd77::9/);
      assert.equal(writes.length, count + 1);
    }),
);

testNeeding(
  NEEDS,
  "without a way outside, a relay is unreachable rather than looped into the tunnel",
  () =>
    onGround(async (ground) => {
      const { commands, writes } = countedCommands();
      await using network = await up(ground, { commands });
      await network.routes.apply(FULL, RELAYS);
      await ground.shell("ip route del default; ip -6 route del default");
      await network.routes.refreshPins();
      assert.match(await ours(ground), /unreachable 192\.0\.2\.5.*unreachable fd99::5/);
      const count = writes.length;
      await network.routes.refreshPins();
      assert.equal(writes.length, count);
      await ground.shell(
        "ip route add default via 10.77.0.2 dev eth0; ip route add default via fd77::2 dev eth0",
      );
      await network.routes.refreshPins();
      assert.match(await ours(ground), /192\.0\.2\.5 via 10\.77\.0\.2.*fd99::5 via fd77::2/);
    }),
);

testNeeding(
  NEEDS,
  "the link goes down and comes back: the pins that the kernel dropped are set again",
  () =>
    onGround(async (ground) => {
      await using network = await up(ground);
      await network.routes.apply([prefix("0.0.0.0/1"), prefix("128.0.0.0/1")], RELAYS);
      const before = await ours(ground);
      await ground.shell("ip link set eth0 down");
      assert.doesNotMatch(await ours(ground), /192\.0\.2\.5/);
      await ground.shell("ip link set eth0 up; ip route add default via 10.77.0.2 dev eth0");
      await network.routes.refreshPins();
      assert.equal(await ours(ground), before);
    }),
);

testNeeding(
  NEEDS,
  "a relay that its owner has pinned is left to him, and a network of ours stays ours",
  () =>
    onGround(async (ground) => {
      const { logger, events } = listeningLogger();
      await using network = await up(ground, { logger });
      await ground.shell("ip route add 192.0.2.5 via 10.77.0.3");
      const { conflicts } = await network.routes.apply([...FULL, prefix("10.77.0.0/24")], [ip("192.0.2.5")]);
      assert.deepEqual(conflicts.map(formatPrefix), ["10.77.0.0/24"]);
      assert.doesNotMatch(await ours(ground), /192\.0\.2\.5/);
      await network.routes.refreshPins();
      assert.equal(events.filter((event) => event === "network_route_conflicts").length, 1, "told once");
      await network.routes.close();
      assert.match(await ground.shell("ip route"), /192\.0\.2\.5 via 10\.77\.0\.3/);
    }),
);

testNeeding(NEEDS, "what cannot be routed at all leaves no half", () =>
  onGround(async (ground) => {
    const before = await ground.picture();
    await using network = await ground.open();
    // The interface is down: its routes are refused, after the pins were set.
    await assert.rejects(network.routes.apply(FULL, RELAYS), { code: "ERR_NETWORK_COMMAND" });
    assert.equal(await ours(ground), "");
    await network.close();
    assert.equal(await ground.picture(), before);
  }));

testNeeding(
  NEEDS,
  "a route that somebody removed comes back; calls at once do not meet",
  () =>
    onGround(async (ground) => {
      await using network = await up(ground);
      const wanted = Array.from({ length: 300 }, (_, n) => prefix(`172.${16 + (n >> 8)}.${n & 255}.0/24`));
      await Promise.all([
        network.routes.apply(FULL, RELAYS),
        network.routes.apply(wanted, RELAYS),
        network.routes.refreshPins(),
      ]);
      assert.equal((await ours(ground)).split("; ").length, 300);
      await ground.shell(`ip route del 172.16.5.0/24`);
      await network.routes.apply(wanted, RELAYS);
      assert.equal((await ours(ground)).split("; ").length, 300);
    }),
);

testNeeding(NEEDS, "where IPv6 is off, the IPv4 half works", () =>
  onGround(async (ground) => {
    const { logger, events } = listeningLogger();
    await ground.shell(`echo 1 > /proc/sys/net/ipv6/conf/${TUNNEL}/disable_ipv6`);
    await using network = await up(ground, { logger });
    await network.routes.apply(FULL, RELAYS);
    assert.match(await ours(ground), /128\.0\.0\.0\/1/);
    assert.doesNotMatch(await ours(ground), /8000::/);
    assert.equal(events.filter((event) => event === "network_ipv6_off").length, 2, "addresses, then routes");
  }));

async function up(ground: Ground, options: Parameters<Ground["open"]>[0] = {}) {
  const network = await ground.open(options);
  const addresses = [
    { address: ip("10.100.0.7"), prefixLength: 32 },
    { address: ip("fd10::7"), prefixLength: 128 },
  ];
  await network.interface.apply({ addresses, mtu: 1_300, up: true, prefixRoute: false });
  return network;
}

/** The interface that a packet would take. */
async function wayTo(ground: Ground, address: string): Promise<string | undefined> {
  return /dev (\S+)/.exec(await ground.shell(`ip route get ${address}`))?.[1];
}

/** Our routes, one after the other. */
async function ours(ground: Ground): Promise<string> {
  const text = await ground.shell("ip route show proto 71; ip -6 route show proto 71");
  const lines = text.split("\n").map((line) => line.replace(/ metric.*/, "").trim());
  return lines.filter((line) => line !== "").join("; ");
}
