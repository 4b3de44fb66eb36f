/** Zone and pools say the same in a config, in a view and on a machine, and never lie in tunnels' pools. */

import assert from "node:assert/strict";
import { formatPrefix, parsePrefix } from "../../../src/base/ip.ts";
import {
  formatServiceNetwork,
  overlapOf,
  readServiceNetwork,
  serviceNetworkOf,
  withLocalPools,
} from "../../../src/core/service/service_network.ts";
import { poolsOf } from "../../../src/modes/relay/tunnel/address_plan.ts";

const SETTINGS = { zone: "ginnel.internal", ipv4: parsePrefix("10.101.0.0/16")! };

Deno.test("readServiceNetwork() refuses pools of another size or version", () => {
  const good = formatServiceNetwork(serviceNetworkOf(SETTINGS, "d"));
  assert.deepEqual(formatServiceNetwork(readServiceNetwork(good)!), good);
  for (
    const bad of [
      { ipv4: "10.101.0.0/15" },
      { ipv4: "10.101.0.0" },
      { ipv4: "" },
      { ipv4: good.ipv6 },
      { ipv6: "fd00::/48" },
      { ipv6: good.ipv4 },
    ]
  ) assert.equal(readServiceNetwork({ ...good, ...bad }), undefined);
});

Deno.test("the IPv6 pool follows from the trust domain, and is not that of tunnels", async () => {
  const network = serviceNetworkOf(SETTINGS, "example.internal");
  assert.deepEqual(serviceNetworkOf(SETTINGS, "example.internal"), network);
  assert.match(formatPrefix(network.ipv6), /^fd[0-9a-f:]+::\/64$/);
  assert.notDeepEqual(serviceNetworkOf(SETTINGS, "other.internal").ipv6, network.ipv6);
  const { ipv4, ipv6 } = await poolsOf({ ipv4: parsePrefix("10.100.0.0/24")! }, "example.internal");
  assert.equal(overlapOf(network, [ipv4, ipv6]), undefined);
  const given = parsePrefix("fd00:1::/64")!;
  assert.deepEqual(serviceNetworkOf({ ...SETTINGS, ipv6: given }, "d").ipv6, given);
});

Deno.test("overlapOf() finds a pool within another, around it, or the same", () => {
  const network = serviceNetworkOf({ ...SETTINGS, ipv6: parsePrefix("fd00:1::/64")! }, "d");
  for (
    const text of ["10.101.7.0/24", "10.0.0.0/8", "10.101.0.0/16", "0.0.0.0/0", "fd00::/16", "fd00:1::9/128"]
  ) {
    assert.equal(
      formatPrefix(overlapOf(network, [null, parsePrefix(text)!])!.other),
      formatPrefix(parsePrefix(text)!),
    );
  }
  for (const text of ["10.100.0.0/16", "10.102.0.0/16", "fd00:1:0:1::/64", "::/128"]) {
    assert.equal(overlapOf(network, [parsePrefix(text)!]), undefined, text);
  }
});

Deno.test("pools of this machine stand in for the network's, each by itself", () => {
  const network = serviceNetworkOf(SETTINGS, "d");
  const ipv4 = parsePrefix("10.102.0.0/16")!;
  assert.deepEqual(withLocalPools(network, { ipv4 }), { ...network, ipv4 });
  assert.deepEqual(withLocalPools(network, {}), network);
});
