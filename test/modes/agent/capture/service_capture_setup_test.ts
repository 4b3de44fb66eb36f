/** What capture does to the machine: routes as services come and go, conflicts, and nothing left behind. */

import assert from "node:assert/strict";
import { parsePrefix } from "../../../../src/base/ip.ts";
import { errorCode } from "../../../../src/base/errors.ts";
import { assertSame, type Ground, onGround } from "../../../io/network/ground.ts";
import { listeningLogger } from "../../../io/network/fakes.ts";
import { eventually } from "../../../support/eventually.ts";
import { ManagedProcess } from "../../../support/processes.ts";
import { testNeeding } from "../../../support/require_tool.ts";
import {
  CAPTURE_NEEDS,
  catalogueOf,
  echoServer,
  INTERFACE,
  onCaptureGround,
  startCapture,
  testNetwork,
  virtual,
} from "./capture_ground.ts";

testNeeding(
  CAPTURE_NEEDS,
  "the services' prefixes are routed as they come and go, the relays stay outside",
  () =>
    onCaptureGround(async ({ ground, capture }) => {
      assert.deepEqual(await routes(ground), ["10.101.0.0/16", "fd12:3456:789a:1::/64"]);
      await capture.update(
        catalogueOf([wide(["192.0.2.0/24", "2001:db8::/32", "198.51.100.9", "0.0.0.0/0"])]),
      );
      assert.deepEqual(await routes(ground), [
        "0.0.0.0/1",
        "10.101.0.0/16",
        "128.0.0.0/1",
        "192.0.2.0/24",
        "198.51.100.9",
        "2001:db8::/32",
        "fd12:3456:789a:1::/64",
      ]);
      assert.match(await ground.shell("ip route get 192.0.2.5"), /dev eth0/);
      assert.match(await ground.shell("ip route get 192.0.2.6"), new RegExp(`dev ${INTERFACE}`));
      await capture.update(catalogueOf([]));
      assert.deepEqual(await routes(ground), ["10.101.0.0/16", "fd12:3456:789a:1::/64"]);
    }, { relays: () => [{ hostname: "192.0.2.5", port: 4433 }] }),
);

testNeeding(
  CAPTURE_NEEDS,
  "nothing is left behind, and what was there stays",
  () =>
    onGround(async (ground) => {
      const before = await ground.picture();
      const capture = await startCapture(ground, {
        network: testNetwork(1),
        catalogue: catalogueOf([wide(["192.0.2.0/24"])]),
        relays: () => [{ hostname: "192.0.2.5", port: 4433 }],
      });
      assert.notEqual(await ground.picture(), before);
      await capture.close();
      await capture.close();
      assertSame(await ground.picture(), before);
    }),
);

testNeeding(
  CAPTURE_NEEDS,
  "what a killed agent left is undone by the next one",
  () =>
    onGround(async (ground) => {
      const before = await ground.picture();
      const script = new URL("./capture_and_wait.ts", import.meta.url).pathname;
      const run = [
        Deno.execPath(),
        "run",
        "--quiet",
        "--no-check",
        "-A",
        "--unstable-net",
        script,
        ground.directory,
      ];
      const killed = ManagedProcess.spawn(ground.command(run));
      await killed.waitForLine(/^ready$/);
      await killed.stop({ signal: "SIGKILL" });
      const capture = await startCapture(ground, { network: testNetwork(1) });
      assert.deepEqual(await routes(ground), ["10.101.0.0/16", "fd12:3456:789a:1::/64"]);
      assert.doesNotMatch(await ground.shell("ip route"), /192\.0\.2\.5/);
      await capture.close();
      assertSame(await ground.picture(), before);
    }),
);

for (
  const [what, make, told] of [
    ["an address", "ip addr add 10.101.7.1/24 dev eth0", /eth0 has the route 10\.101\.7\.0\/24/],
    ["a wider network", "ip route add 10.0.0.0/8 via 10.77.0.2", /eth0 has the route 10\.0\.0\.0\/8/],
    [
      "another table's",
      "ip route add 10.101.0.0/16 dev eth0 table 52",
      /eth0 has the route 10\.101\.0\.0\/16/,
    ],
    ["a lone address", "ip addr add 10.101.7.1/32 dev lo", /lo has the address 10\.101\.7\.1\/32/],
    [
      "an IPv6 network",
      "ip -6 route add fd12:3456:789a::/48 dev eth0",
      /eth0 has the route fd12:3456:789a::\/48/,
    ],
  ] as const
) {
  testNeeding(
    CAPTURE_NEEDS,
    `pools in use are refused, with a free one named: ${what}`,
    () =>
      onGround(async (ground) => {
        await ground.shell(make);
        await ground.shell("ip route add 10.102.0.0/16 via 10.77.0.2");
        const before = await ground.picture();
        await assert.rejects(
          startCapture(ground, { network: testNetwork(1) }),
          (error: Error & { hint?: string }) => {
            assert.equal(errorCode(error), "ERR_CAPTURE_CONFLICT");
            assert.match(error.message, told);
            const free = what === "a wider network" ? /"100\.64\.0\.0\/16"/ : /"10\.103\.0\.0\/16"/;
            assert.match(error.hint!, what.includes("IPv6") ? /"fd12:3456:789b:/ : free);
            return true;
          },
        );
        assertSame(await ground.picture(), before);
      }),
  );
}

testNeeding(
  CAPTURE_NEEDS,
  "default routes and their halves are nobody's conflict",
  () =>
    onGround(async (ground) => {
      await ground.shell("ip route add 0.0.0.0/1 via 10.77.0.2; ip route add unreachable 10.0.0.0/8");
      await using _capture = disposable(await startCapture(ground, { network: testNetwork(1) }));
    }),
);

testNeeding(
  CAPTURE_NEEDS,
  "what comes into the pools later is told, once, and forgotten when it has gone",
  () => {
    const { logger, events } = listeningLogger();
    return onCaptureGround(async ({ ground, capture }) => {
      await ground.shell("ip route add 10.101.9.0/24 dev eth0");
      await eventually(() => capture.status.problem);
      assert.match(capture.status.problem!, /eth0 has the route 10\.101\.9\.0\/24/);
      await ground.shell("ip route del 10.101.9.0/24 dev eth0; ip addr add 10.77.0.50/24 dev eth0");
      await eventually(() => capture.status.problem === undefined);
      assert.equal(events.filter((event) => event === "capture_problem").length, 1);
      // The new address may ask at once.
      await eventually(async () => {
        const asking = await ground.shell(
          `timeout 1 bash -c 'exec 3<>/dev/tcp/${
            virtual(100)[4]
          }/80; echo hi >&3; head -n1 <&3' || echo none`,
        );
        return asking.trim() === "hi";
      });
    }, { logger });
  },
);

testNeeding(
  CAPTURE_NEEDS,
  "other pools take the place of the old ones",
  () =>
    onCaptureGround(async ({ ground, capture }) => {
      using held = await Deno.connect({ hostname: virtual(100)[4], port: 80 });
      await capture.update(catalogueOf([{ service: "web" }], { ipv4: parsePrefix("10.105.0.0/16")! }));
      assert.deepEqual(await routes(ground), ["10.105.0.0/16", "fd12:3456:789a:1::/64"]);
      assert.deepEqual(capture.status.resolver, ["10.105.0.1", "fd12:3456:789a:1::1"]);
      await assert.rejects(async () => {
        await held.write(new Uint8Array(1));
        while (await held.read(new Uint8Array(1)) !== null);
        throw new Error("ended");
      });
      (await Deno.connect({ hostname: "10.105.0.100", port: 80 })).close();
    }),
);

testNeeding(
  CAPTURE_NEEDS,
  "an interface that somebody took away is made again",
  () =>
    onCaptureGround(async ({ ground, capture }) => {
      await ground.shell(`ip link del ${INTERFACE}`);
      await eventually(async () => {
        (await Deno.connect({ hostname: virtual(100)[4], port: 80 })).close();
        return capture.status.isUp;
      }, { timeout: 15_000 });
    }),
);

testNeeding(CAPTURE_NEEDS, "without IPv6, IPv4 is captured", () =>
  onGround(async (ground) => {
    await ground.shell("echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6");
    using echo = echoServer();
    await using _capture = disposable(await startCapture(ground, { network: testNetwork(echo.port) }));
    (await Deno.connect({ hostname: virtual(100)[4], port: 80 })).close();
  }));

testNeeding(CAPTURE_NEEDS, "a firewall that lets nothing in is told, and programs do not wait for it", () => {
  const { logger, events } = listeningLogger();
  return onCaptureGround(async ({ ground }) => {
    await ground.shell(
      "nft 'table inet wall { chain in { type filter hook input priority 0; ct state new iifname != lo drop; }; }'",
    );
    await assert.rejects(
      Deno.connect({ hostname: virtual(100)[4], port: 80 }),
      /No route to host|unreachable/i,
    );
    assert.ok(events.includes("capture_blocked"));
  }, { logger });
});

function wide(addresses: readonly string[]) {
  const intercept = {
    addresses: [...addresses],
    portRanges: [{ low: 1, high: 65_535 }],
    protocols: ["tcp" as const],
  };
  return { service: "web", intercept };
}

/** The prefixes that lead to the interface, sorted. */
async function routes(ground: Ground): Promise<string[]> {
  const text = await ground.shell(
    `ip route show dev ${INTERFACE} proto 71; ip -6 route show dev ${INTERFACE} proto 71`,
  );
  return text.split("\n").filter((line) => line !== "").map((line) => line.split(" ")[0]!).sort();
}

function disposable(capture: { close(): Promise<void> }): AsyncDisposable {
  return { [Symbol.asyncDispose]: () => capture.close() };
}
