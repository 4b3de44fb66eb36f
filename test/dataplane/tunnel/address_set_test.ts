import assert from "node:assert/strict";
import { AddressSet } from "../../../src/dataplane/tunnel/address_set.ts";
import { newPacketView, readPacket } from "../../../src/wire/packet/packet_view.ts";
import { ip, udp } from "./packets.ts";

Deno.test("an address set knows its addresses as sources and destinations, and no neighbour of theirs", () => {
  const set = new AddressSet([ip("10.0.0.5"), ip("fd00:1:2:3::5")]);
  const view = newPacketView();
  const sides = (src: string, dst: string) => {
    const bytes = udp({ src, dst });
    assert.equal(readPacket(bytes, 0, bytes.length, view), undefined);
    return [set.hasSource(view), set.hasDestination(view)];
  };
  assert.deepEqual(sides("10.0.0.5", "10.0.0.6"), [true, false]);
  assert.deepEqual(sides("10.0.0.4", "10.0.0.5"), [false, true]);
  assert.deepEqual(sides("11.0.0.5", "10.1.0.5"), [false, false]);
  assert.deepEqual(sides("fd00:1:2:3::5", "fd00:1:2:3::6"), [true, false]);
  assert.deepEqual(sides("fd00:1:2:4::5", "fd00:1:2:3::5"), [false, true]);
  for (const near of ["fd01:1:2:3::5", "fd00:1:2:3:1::5", "fd00:1:2:3::1:5", "fd00:1:2:3:0:1::5"]) {
    assert.deepEqual(sides(near, near), [false, false]);
  }
});

Deno.test("an IPv4 address is not its IPv6 form", () => {
  const set = new AddressSet([ip("10.0.0.5")]);
  const view = newPacketView();
  const bytes = udp({ src: "10.0.0.5", dst: "10.0.0.5" });
  assert.equal(readPacket(bytes, 0, bytes.length, view), undefined);
  assert.deepEqual([set.hasSource(view), set.hasDestination(view)], [true, true]);
  view.version = 6;
  assert.deepEqual([set.hasSource(view), set.hasDestination(view)], [false, false]);
});

Deno.test("of() tells the first address of a version, and an empty set knows none", () => {
  const set = new AddressSet([ip("fd00::5"), ip("10.0.0.5"), ip("10.0.0.6")]);
  assert.deepEqual(set.of(4), ip("10.0.0.5"));
  assert.deepEqual(set.of(6), ip("fd00::5"));
  assert.equal(new AddressSet([]).of(4), undefined);
});
