/** Where a host.v1 config leads a flow. */

import assert from "node:assert/strict";
import type { Host } from "../../../src/core/service/host.ts";
import { type FlowWish, hostScope, hostTarget } from "../../../src/core/service/host_target.ts";

const FIXED: Host = { protocol: "tcp", address: "localhost", port: 8000 };
const FORWARDING: Host = {
  forwardProtocol: true,
  allowedProtocols: ["tcp", "udp"],
  forwardAddress: true,
  allowedAddresses: ["10.0.0.0/8", "db.example", "*.corp.example"],
  forwardPort: true,
  allowedPortRanges: [{ low: 80, high: 90 }],
};

function denied(host: Host, wish: FlowWish): string {
  const target = hostTarget(host, wish);
  assert.ok(!target.ok, JSON.stringify(target));
  return target.detail;
}

for (
  const address of [
    "11.0.0.1",
    "evilcorp.example",
    "corp.example",
    "db.example.evil",
    "10.0.0.1/8",
    "a b",
    "127.1",
  ]
) {
  Deno.test(`an address that is not on the allow-list is refused: ${address}`, () => {
    assert.equal(denied(FORWARDING, { protocol: "tcp", port: 80, address }), "this address is not offered");
  });
}

Deno.test("a port, a protocol or an address that is not offered is refused", () => {
  assert.equal(
    denied(FORWARDING, { protocol: "tcp", port: 91, address: "10.0.0.1" }),
    "port 91 is not offered",
  );
  assert.equal(denied(FORWARDING, { protocol: "tcp", address: "10.0.0.1" }), "no port was asked for");
  assert.equal(denied(FORWARDING, { protocol: "tcp", port: 80 }), "no address was asked for");
  assert.equal(
    denied({ ...FORWARDING, allowedProtocols: ["udp"] }, { protocol: "tcp", port: 80, address: "10.0.0.1" }),
    "tcp is not offered",
  );
  assert.equal(denied(FIXED, { protocol: "udp", port: 8000 }), "udp is not offered");
  assert.equal(denied(FIXED, { protocol: "icmp" }), "echo messages are not carried to an upstream");
});

Deno.test("what is fixed stays fixed, whatever is asked", () => {
  assert.deepEqual(hostTarget(FIXED, { protocol: "tcp", port: 443, address: "169.254.169.254" }), {
    ok: true,
    protocol: "tcp",
    host: "localhost",
    port: 8000,
  });
});

Deno.test("what is forwarded and allowed is dialled as asked", () => {
  for (
    const [address, host = address] of [["10.1.2.3"], ["::ffff:10.1.2.3"], ["DB.example.", "db.example"], [
      "a.b.corp.example",
    ]]
  ) {
    assert.deepEqual(hostTarget(FORWARDING, { protocol: "udp", port: 90, address: address! }), {
      ok: true,
      protocol: "udp",
      host,
      port: 90,
    });
  }
});

Deno.test("the scope of a config is all that it may lead to", () => {
  assert.deepEqual(hostScope(FIXED), { addresses: ["localhost"], ports: [{ low: 8000, high: 8000 }] });
  assert.deepEqual(hostScope(FORWARDING), {
    addresses: ["10.0.0.0/8", "db.example", "*.corp.example"],
    ports: [{ low: 80, high: 90 }],
  });
});
