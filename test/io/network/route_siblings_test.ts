/** Two interfaces of one process: neither takes the other for a way outside, nor its host routes away. */

import assert from "node:assert/strict";
import { formatIp } from "../../../src/base/ip.ts";
import { readRoutes } from "../../../src/io/network/ip_json.ts";
import { outsideRoute, planRoutes } from "../../../src/io/network/route_plan.ts";
import { RouteSiblings } from "../../../src/io/network/route_siblings.ts";
import { ip, TUNNEL } from "./values.ts";

const RELAY = ip("192.0.2.7");
/** A tunnel of everything, a capture of the relay's network, and the way there was before. */
const PRESENT = readRoutes(
  JSON.stringify([
    { dst: "0.0.0.0/1", dev: "ginnel0", protocol: "71" },
    { dst: "128.0.0.0/1", dev: "ginnel0", protocol: "71" },
    { dst: "192.0.2.0/24", dev: "ginnel1", protocol: "71" },
    { dst: "default", gateway: "10.77.0.6", dev: "eth0" },
  ]),
  4,
);
const PIN = readRoutes(
  JSON.stringify([{ dst: "192.0.2.7", gateway: "10.77.0.6", dev: "eth0", protocol: "71" }]),
  4,
);

Deno.test("the way outside leads by none of our interfaces, of this process or of another", () => {
  for (const interfaceName of ["ginnel0", "ginnel1", TUNNEL]) {
    for (const present of [PRESENT, [...PRESENT, ...PIN]]) {
      const route = outsideRoute(RELAY, { interfaceName, present, pinnedBefore: [] });
      assert.equal(route?.hop?.device, "eth0", interfaceName);
    }
  }
  // A service at just the relay's address looks as a host route does.
  const caught = readRoutes(JSON.stringify([{ dst: "192.0.2.7", dev: "ginnel1", protocol: "71" }]), 4);
  const siblings = { interfaces: new Set(["ginnel1"]), pinned: [] };
  const route = outsideRoute(RELAY, {
    interfaceName: "ginnel0",
    present: [...caught, ...PRESENT],
    pinnedBefore: [],
    siblings,
  });
  assert.equal(route?.hop?.device, "eth0");
});

Deno.test("a host route that two want is made once, and goes with the last of them", () => {
  const hop = { device: "eth0", gateway: ip("10.77.0.6") };
  const siblings = new RouteSiblings();
  const plan = (interfaceName: string, { isWanted = true, present = PRESENT }) =>
    planRoutes({
      interfaceName,
      present,
      wanted: [],
      pins: isWanted ? [{ address: RELAY, hop }] : [],
      pinnedBefore: [RELAY],
      siblings: siblings.of(interfaceName),
    }).steps.map(({ run }) => run).filter((run) => run.includes("192.0.2.7"));
  const pinned = [...PRESENT, ...PIN];
  const line = "192.0.2.7/32 via 10.77.0.6 dev eth0 onlink proto 71";
  assert.deepEqual(plan("ginnel0", {}), [`route add ${line}`]);
  siblings.set("ginnel0", [RELAY]);
  assert.deepEqual(siblings.of("ginnel1").pinned.map(formatIp), ["192.0.2.7"]);
  assert.deepEqual(plan("ginnel1", { present: pinned }), []);
  siblings.set("ginnel1", [RELAY]);
  assert.deepEqual(plan("ginnel1", { isWanted: false, present: pinned }), []);
  siblings.set("ginnel1", undefined);
  assert.deepEqual(plan("ginnel0", { isWanted: false, present: pinned }), [`route del ${line}`]);
});
