import assert from "node:assert/strict";
import { testNeeding } from "../../support/require_tool.ts";
import type { NatConfig } from "../../../src/io/network/nat.ts";
import { fakeFiles, listeningLogger } from "./fakes.ts";
import { assertSame, countedCommands, type Ground, NEEDS, onGround, receive, send, udp } from "./ground.ts";
import { ip, prefix, TUNNEL } from "./values.ts";

const CONFIG: NatConfig = {
  mode: "masquerade",
  pools: [prefix("10.99.0.0/24"), prefix("fd99::/64")],
  gateways: [ip("10.99.0.1"), ip("fd99::1")],
};

testNeeding(
  NEEDS,
  "clients reach the world with the relay's address, and get their answers",
  () =>
    onGround(async (ground) => {
      await using network = await ground.open();
      const before = await ground.picture();
      assert.deepEqual(await network.nat.apply(CONFIG), []);
      for (const { world, relay } of WORLDS) {
        using server = udp(ground, "far", { hostname: world, port: 7_000 });
        using client = udp(ground, "inner", { hostname: relay.includes(":") ? "::" : "0.0.0.0", port: 0 });
        await send(client, "ask", { hostname: world, port: 7_000 });
        const { from } = await receive(server);
        assert.equal(from.hostname, relay);
        await send(server, "answer", from);
        assert.equal((await receive(client)).text, "answer");
      }
      await network.nat.close();
      assertSame(await ground.picture(), before);
    }, { inner: TUNNEL }),
);

const WORLDS = [{ world: "10.77.0.2", relay: "10.77.0.1" }, { world: "fd77::2", relay: "fd77::1" }];

testNeeding(
  NEEDS,
  "clients reach the gateway's address of the relay, and none of its others",
  () =>
    onGround(async (ground) => {
      await using network = await ground.open();
      await network.nat.apply(CONFIG);
      for (const [gateway, other] of [["10.99.0.1", "10.77.0.1"], ["fd99::1", "fd77::1"]] as const) {
        const any = gateway.includes(":") ? "::" : "0.0.0.0";
        using server = udp(ground, "near", { hostname: any, port: 7_000 });
        using client = udp(ground, "inner", { hostname: any, port: 0 });
        // One way, one order: had the first come through, it would be received first.
        await send(client, other, { hostname: other, port: 7_000 });
        await send(client, gateway, { hostname: gateway, port: 7_000 });
        assert.equal((await receive(server)).text, gateway);
      }
    }, { inner: TUNNEL }),
);

testNeeding(
  NEEDS,
  "nobody opens a flow to a client, a client has only its pool's addresses, nothing else is forwarded",
  () =>
    onGround(async (ground) => {
      await using network = await ground.open();
      await network.nat.apply(CONFIG);
      await ground.shell("ip route add 10.99.0.0/24 via 10.77.0.1", "far");
      {
        using client = udp(ground, "inner", { hostname: "10.99.0.2", port: 7_000 });
        using stranger = udp(ground, "far", { hostname: "10.77.0.2", port: 0 });
        using friend = udp(ground, "far", { hostname: "10.77.0.2", port: 7_000 });
        await send(client, "ask", { hostname: "10.77.0.2", port: 7_000 });
        const { from } = await receive(friend);
        await send(stranger, "uninvited", { hostname: "10.99.0.2", port: 7_000 });
        await send(stranger, "uninvited", from);
        await send(friend, "answer", from);
        assert.equal((await receive(client)).text, "answer");
      }
      {
        await ground.shell("ip addr add 10.98.0.1/32 dev eth1", "inner");
        await ground.shell(`ip route add 10.98.0.1/32 dev ${TUNNEL}`);
        using server = udp(ground, "far", { hostname: "10.77.0.2", port: 7_000 });
        using liar = udp(ground, "inner", { hostname: "10.98.0.1", port: 0 });
        using client = udp(ground, "inner", { hostname: "10.99.0.2", port: 0 });
        await send(liar, "lie", { hostname: "10.77.0.2", port: 7_000 });
        await send(client, "truth", { hostname: "10.77.0.2", port: 7_000 });
        assert.equal((await receive(server)).text, "truth");
      }
      assert.match(
        await ground.shell("nft list table inet ginnel_ginnel7"),
        /nfproto ipv4 drop\s+meta nfproto ipv6 drop/,
      );
    }, { inner: TUNNEL }),
);

testNeeding(
  NEEDS,
  "a router stays a router: forwarding that was on stays on, for others too",
  () =>
    onGround(async (ground) => {
      await ground.shell("echo 1 > /proc/sys/net/ipv4/ip_forward");
      const before = await ground.picture();
      await using network = await ground.open();
      await network.nat.apply({ ...CONFIG, pools: [prefix("10.99.0.0/24")] });
      assert.doesNotMatch(await ground.shell("nft list table inet ginnel_ginnel7"), /nfproto/);
      await network.nat.close();
      assertSame(await ground.picture(), before);
    }),
);

testNeeding(
  NEEDS,
  "an interface that routed before, and one that learns its routes, stay so",
  () =>
    onGround(async (ground) => {
      await ground.shell(
        "echo 1 > /proc/sys/net/ipv6/conf/eth0/forwarding; echo 1 > /proc/sys/net/ipv4/conf/eth0/forwarding; echo 0 > /proc/sys/net/ipv4/conf/all/accept_redirects",
      );
      const before = await ground.picture();
      await using network = await ground.open();
      await network.nat.apply(CONFIG);
      assert.equal((await ground.shell("cat /proc/sys/net/ipv6/conf/lo/accept_ra")).trim(), "2");
      await network.nat.close();
      assertSame(await ground.picture(), before);
    }),
);

testNeeding(NEEDS, "asked again, it does nothing; pools may change", () =>
  onGround(async (ground) => {
    const { commands, writes } = countedCommands();
    await using network = await ground.open({ commands });
    await network.nat.apply(CONFIG);
    const [count, during] = [writes.length, await ground.picture()];
    await network.nat.apply(CONFIG);
    assert.equal(writes.length, count);
    assertSame(await ground.picture(), during);
    await network.nat.apply({ ...CONFIG, pools: [prefix("10.98.0.0/16")] });
    assert.match(await ground.shell("nft list ruleset"), /10\.98\.0\.0\/16 masquerade/);
    assert.doesNotMatch(await ground.shell("nft list ruleset"), /10\.99\.0\.0/);
  }));

testNeeding(NEEDS, "a firewall that drops what is forwarded is named", () =>
  onGround(async (ground) => {
    await ground.shell(
      "nft 'add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }'",
    );
    await using network = await ground.open();
    const [warning, ...rest] = await network.nat.apply(CONFIG);
    assert.match(warning ?? "", /ip filter FORWARD.*ginnel7/);
    assert.deepEqual(rest, []);
  }));

testNeeding(
  NEEDS,
  "left to the operator, nothing is touched, and what is missing is told",
  () =>
    onGround(async (ground) => {
      const before = await ground.picture();
      await using network = await ground.open();
      const warnings = await network.nat.apply({ ...CONFIG, mode: "none" });
      assert.deepEqual(warnings.map((warning) => /sysctl -w (\S+)=1/.exec(warning)?.[1]), [
        "net.ipv4.ip_forward",
        "net.ipv6.conf.all.forwarding",
      ]);
      assert.equal(await ground.picture(), before);
      await ground.shell(
        "echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding",
      );
      assert.deepEqual(await network.nat.apply({ ...CONFIG, mode: "none" }), []);
    }),
);

testNeeding(
  NEEDS,
  "where settings are read-only: IPv4 is an error, IPv6 beside it a warning",
  () =>
    onGround(async (ground) => {
      const [v4, v6] = ["/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"];
      const apply = async (ipv4: string, config: NatConfig) => {
        const files = { ...fakeFiles({ [v4]: ipv4, [v6]: "0" }, [v4, v6]), readLink: () => "net:[9]" };
        await using network = await openWith(ground, files);
        return await network.nat.apply(config);
      };
      await assert.rejects(apply("0", CONFIG), {
        code: "ERR_FORWARDING",
        hint: /--sysctl net.ipv4.ip_forward=1/,
      });
      const [warning] = await apply("1", CONFIG);
      assert.match(warning ?? "", /IPv6 forwarding.*Read-only/);
      await assert.rejects(apply("1", { ...CONFIG, pools: [prefix("fd99::/64")] }), {
        code: "ERR_FORWARDING",
      });
      assert.doesNotMatch(await ground.shell("nft list ruleset"), /ginnel/);
    }),
);

function openWith(ground: Ground, files: ReturnType<typeof fakeFiles>) {
  return ground.open({ files, logger: listeningLogger().logger });
}
