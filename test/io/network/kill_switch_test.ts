import assert from "node:assert/strict";
import { formatHostPort } from "../../../src/base/address.ts";
import { testNeeding } from "../../support/require_tool.ts";
import { countedCommands, type Ground, NEEDS, onGround, receive, send, udp } from "./ground.ts";
import { ip, prefix } from "./values.ts";

const RELAY = { hostname: "10.77.0.2", port: 4_433 };
const RELAY6 = { hostname: "fd77::2", port: 4_433 };
const RELAYS = [RELAY, RELAY6].map(({ hostname, port }) => ({ address: ip(hostname), port }));

testNeeding(
  NEEDS,
  "full: nothing leaves but to the relays' very ports, and home",
  () =>
    onGround(async (ground) => {
      await using network = await ground.open();
      assert.deepEqual(
        await Promise.all(EVERYTHING.map((to) => sends(ground, to))),
        EVERYTHING.map(() => true),
      );
      await network.killSwitch.apply({ routes: "full", relays: RELAYS });
      const allowed = new Set([RELAY, RELAY6, HOME].map(formatHostPort));
      for (const to of EVERYTHING) {
        assert.equal(await sends(ground, to), allowed.has(formatHostPort(to)), formatHostPort(to));
      }
      assert.equal(await connects(ground, RELAY), true);
      await network.killSwitch.close();
      for (const to of EVERYTHING) {
        assert.equal(await sends(ground, to), true, formatHostPort(to));
      }
    }),
);

const HOME = { hostname: "127.0.0.1", port: 9 };
const EVERYTHING = [
  RELAY,
  RELAY6,
  HOME,
  { hostname: "10.77.0.2", port: 4_434 },
  { hostname: "10.77.0.3", port: 4_433 },
  { hostname: "198.51.100.1", port: 4_433 },
  { hostname: "10.77.0.2", port: 53 },
  { hostname: "fd77::2", port: 4_434 },
  { hostname: "fd98::1", port: 443 },
  { hostname: "10.77.0.255", port: 67 },
];

testNeeding(
  NEEDS,
  "split: only the tunnelled prefixes are held back, but for relays inside them",
  () =>
    onGround(async (ground) => {
      await using network = await ground.open();
      const routes = ["10.77.0.2/31", "10.77.0.0/30", "198.51.100.0/24", "fd98::/16"].map(prefix);
      await network.killSwitch.apply({ routes, relays: RELAYS });
      const held = ["10.77.0.2:4434", "10.77.0.3:4433", "198.51.100.1:4433", "10.77.0.2:53", "[fd98::1]:443"];
      for (const to of EVERYTHING.slice(0, -1)) {
        assert.equal(await sends(ground, to), !held.includes(formatHostPort(to)), formatHostPort(to));
      }
    }),
);

testNeeding(
  NEEDS,
  "packets of others that this machine forwards are held back too",
  () =>
    onGround(async (ground) => {
      await using network = await ground.open();
      await ground.shell("echo 1 > /proc/sys/net/ipv4/ip_forward");
      await ground.shell("ip route add 10.99.0.0/24 via 10.77.0.1", "far");
      using receiver = udp(ground, "far", { hostname: "10.77.0.2", port: 7_000 });
      using sender = udp(ground, "inner", { hostname: "0.0.0.0", port: 0 });
      const target = { hostname: "10.77.0.2", port: 7_000 };
      for (const routes of ["full", [prefix("10.77.0.0/24")]] as const) {
        await send(sender, "open", target);
        assert.equal((await receive(receiver)).text, "open");
        await network.killSwitch.apply({ routes, relays: [{ address: ip("10.77.0.2"), port: 7_000 }] });
        await send(sender, "held back: the relay is for us alone", target);
        await network.killSwitch.close();
      }
      await send(sender, "open again", target);
      assert.equal((await receive(receiver)).text, "open again");
    }, { inner: "c0" }),
);

testNeeding(
  NEEDS,
  "asked again, it does nothing; flushed by another firewall, it comes back",
  () =>
    onGround(async (ground) => {
      const { commands, writes } = countedCommands();
      await using network = await ground.open({ commands });
      const config = { routes: "full", relays: RELAYS } as const;
      const far = { hostname: "198.51.100.1", port: 443 };
      await network.killSwitch.apply(config);
      const count = writes.length;
      await network.killSwitch.apply(config);
      assert.equal(writes.length, count);
      await ground.shell("nft flush ruleset");
      assert.equal(await sends(ground, far), true);
      await network.killSwitch.apply(config);
      assert.equal(await sends(ground, far), false);
      const wrong = { routes: "full", relays: [{ address: ip("10.0.0.1"), port: 0 }] } as const;
      await assert.rejects(network.killSwitch.apply(wrong), RangeError);
      assert.equal(await sends(ground, far), false, "the last one is still in force");
    }),
);

/** Whether the kernel lets a datagram out: what a rule drops is refused to its sender at once. */
async function sends(ground: Ground, to: { hostname: string; port: number }): Promise<boolean> {
  const hostname = to.hostname.includes(":") ? "::" : "0.0.0.0";
  using socket = udp(ground, "near", { hostname, port: 0 });
  try {
    await socket.send(new Uint8Array(1), { transport: "udp", ...to });
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.PermissionDenied) return false;
    throw error;
  }
}

async function connects(ground: Ground, to: { hostname: string; port: number }): Promise<boolean> {
  using _listener = ground.at("far", () => Deno.listen(to));
  using _connection = await Deno.connect(to);
  return true;
}
