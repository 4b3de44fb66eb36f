import assert from "node:assert/strict";
import { checkWish, type InterfaceState, planInterface } from "../../../src/io/network/interface_plan.ts";
import { ip, TUNNEL } from "./values.ts";

const FRESH: InterfaceState = { up: false, mtu: 1_500, addressGeneration: "eui64", addresses: [] };
const V4 = { address: ip("10.100.0.7"), prefixLength: 24 };
const V6 = { address: ip("fd10::7"), prefixLength: 64 };
const WISH = { up: true, mtu: 1_300, addressGeneration: "none", addresses: [V4, V6] };

Deno.test("planInterface() stops link-local addresses before the link comes up, and keeps host bits", () => {
  assert.deepEqual(runs(FRESH, WISH), [
    "link set dev ginnel7 addrgenmode none",
    "link set dev ginnel7 mtu 1300",
    "link set dev ginnel7 up",
    "addr add 10.100.0.7/24 dev ginnel7",
    "addr add fd10::7/64 dev ginnel7 nodad",
  ]);
});

Deno.test("planInterface() plans nothing where the wish is met, in any order of addresses", () => {
  assert.deepEqual(runs({ ...WISH, addresses: [V6, V4] }, WISH), []);
});

Deno.test("planInterface() removes before it adds, and tells a prefix from another of the same address", () => {
  const wide = { ...V4, prefixLength: 16 };
  assert.deepEqual(runs({ ...WISH, addresses: [wide] }, { ...WISH, addresses: [V4] }), [
    "addr del 10.100.0.7/16 dev ginnel7",
    "addr add 10.100.0.7/24 dev ginnel7",
  ]);
});

Deno.test("planInterface() gives a client's address no route of its own", () => {
  assert.ok(
    runs(FRESH, { ...WISH, prefixRoute: false }).includes(
      "addr add 10.100.0.7/24 dev ginnel7 noprefixroute",
    ),
  );
});

Deno.test("planInterface() undoes every step, and back to the first state", () => {
  for (const { run, undo } of planInterface(TUNNEL, FRESH, WISH)) assert.notEqual(run, undo);
  assert.deepEqual(runs(WISH, FRESH), [
    "link set dev ginnel7 addrgenmode eui64",
    "link set dev ginnel7 mtu 1500",
    "addr del fd10::7/64 dev ginnel7",
    "addr del 10.100.0.7/24 dev ginnel7",
    "link set dev ginnel7 down",
  ]);
});

Deno.test("planInterface() leaves a way of making addresses alone that it could not put back", () => {
  const odd = { ...FRESH, addressGeneration: "unknown" };
  assert.ok(runs(odd, WISH).every((line) => !line.includes("addrgenmode")));
});

Deno.test("checkWish() refuses what the kernel would refuse later", () => {
  checkWish(WISH);
  for (const mtu of [575, 65_536, 1_300.5, NaN]) {
    assert.throws(() => checkWish({ ...WISH, mtu }), RangeError);
  }
  for (const prefixLength of [0, 33, 1.5]) {
    assert.throws(() => checkWish({ ...WISH, addresses: [{ ...V4, prefixLength }] }), RangeError);
  }
  assert.throws(() => checkWish({ ...WISH, addresses: [{ ...V6, prefixLength: 129 }] }), RangeError);
});

function runs(present: InterfaceState, wish: Parameters<typeof planInterface>[2]): string[] {
  return planInterface(TUNNEL, present, wish).map(({ run }) => run);
}
