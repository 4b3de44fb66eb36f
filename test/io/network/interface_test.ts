import assert from "node:assert/strict";
import { testNeeding } from "../../support/require_tool.ts";
import { assertSame, NEEDS, onGround } from "./ground.ts";
import { ip, TUNNEL } from "./values.ts";

testNeeding(
  NEEDS,
  "an interface gets new addresses in place of the old, beside those that others gave it",
  () =>
    onGround(async (ground) => {
      await ground.shell(`ip addr add 198.51.100.9/32 dev ${TUNNEL}; ip link set ${TUNNEL} up`);
      const before = await ground.picture();
      await using network = await ground.open();
      for (const host of ["10.100.0.7", "10.100.0.8"]) {
        const addresses = [
          { address: ip(host), prefixLength: 24 },
          { address: ip("10.100.0.9"), prefixLength: 24 },
        ];
        await network.interface.apply({ addresses, mtu: 1_280, up: true });
        const text = await ground.shell(`ip -br addr show dev ${TUNNEL}`);
        const found = text.trim().split(/\s+/).slice(2).toSorted();
        assert.deepEqual(found, ["10.100.0.9/24", `${host}/24`, "198.51.100.9/32"].toSorted());
      }
      assert.match(await ground.shell(`ip link show dev ${TUNNEL}`), /mtu 1280/);
      await network.close();
      assertSame(await ground.picture(), before);
    }),
);

testNeeding(
  NEEDS,
  "an interface that is not there is named, with what ip says",
  () =>
    onGround(async (ground) => {
      await using network = await ground.open();
      await ground.shell(`ip link del ${TUNNEL}`);
      await assert.rejects(
        network.interface.apply({ addresses: [], mtu: 1_300, up: true }),
        (error: Error) => {
          assert.match(error.message, /set up interface ginnel7.*does not exist/);
          return true;
        },
      );
    }),
);
