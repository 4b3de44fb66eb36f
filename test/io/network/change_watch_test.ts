/** What a watch of the network notices, in namespaces. */

import assert from "node:assert/strict";
import { SILENT_LOGGER } from "../../../src/base/log.ts";
import { ChangeWatch } from "../../../src/io/network/change_watch.ts";
import { testNeeding } from "../../support/require_tool.ts";
import { NEEDS, onGround } from "./ground.ts";

const CHANGES = {
  "a route": "ip route add 192.0.2.0/24 via 10.77.0.2",
  "an IPv6 route": "ip route add 2001:db8::/64 via fd77::2",
  "another gateway": "ip route replace default via 10.77.0.3",
  "an address": "ip addr add 10.77.0.101/24 dev eth0",
  "a lost address": "ip addr del 10.77.0.101/24 dev eth0",
  "an IPv6 address": "ip addr add fd77::101/64 dev eth0 nodad",
  "a link that goes down": "ip link set eth0 down",
};

testNeeding(
  NEEDS,
  "a watch tells of changes to links, addresses and routes, once",
  () =>
    onGround(async ({ at, shell }) => {
      using watch = at("near", () => new ChangeWatch({ logger: SILENT_LOGGER }));
      assert.equal(watch.take(), false);
      for (const [name, change] of Object.entries(CHANGES)) {
        await shell(change);
        assert.equal(watch.take(), true, name);
        assert.equal(watch.take(), false, `${name}, told twice`);
      }
      await shell("ip route show; ip addr show; ping -c 1 -W 1 127.0.0.1 >/dev/null");
      assert.equal(watch.take(), false, "nothing changed");
    }),
);

testNeeding(
  NEEDS,
  "a watch that lost count of the changes still tells, and goes on",
  () =>
    onGround(async ({ at, shell }) => {
      using watch = at("near", () => new ChangeWatch({ logger: SILENT_LOGGER }));
      const lines = Array.from(
        { length: 4_000 },
        (_, index) => `route add 192.0.${index >> 8}.${index & 255} dev lo`,
      );
      await shell(`ip -batch - <<'END'\n${lines.join("\n")}\nEND`);
      assert.equal(watch.take(), true);
      while (watch.take()) { /* the rest of them */ }
      await shell("ip route add 198.51.100.0/24 dev lo");
      assert.equal(watch.take(), true);
      assert.equal(watch.take(), false);
    }),
);

Deno.test("a watch that has ended tells nothing, and may end twice", () => {
  const watch = new ChangeWatch({ logger: SILENT_LOGGER });
  watch[Symbol.dispose]();
  watch[Symbol.dispose]();
  assert.equal(watch.take(), false);
});
