/** `intercept.v1` takes OpenZiti's definitions and refuses what would catch more than a service. */

import assert from "node:assert/strict";
import { interceptSchema, readIntercept } from "../../../src/core/service/intercept.ts";

const GOOD = {
  addresses: ["claude-api.ginnel.internal"],
  portRanges: [{ low: 8000, high: 8000 }],
  protocols: ["tcp" as const],
};

Deno.test("S1's intercept.v1 is valid as it is, and so is one with every field", () => {
  assert.deepEqual(interceptSchema.parse(GOOD), GOOD);
  const full = {
    addresses: ["a.example", "*.b.example", "192.0.2.7", "10.9.0.0/16", "2001:db8::/32"],
    portRanges: [{ low: 1, high: 65_535 }, { low: 53, high: 53 }],
    protocols: ["tcp" as const, "udp" as const],
    dialOptions: { connectTimeoutSeconds: 15 },
  };
  assert.deepEqual(interceptSchema.parse(full), full);
});

Deno.test("intercept.v1 refuses what is no address, catches everything, or cannot be routed", () => {
  for (
    const address of [
      "0.0.0.0/0",
      "::/0",
      "0.0.0.0",
      "127.0.0.1",
      "127.0.0.0/8",
      "169.254.169.254",
      "224.0.0.1",
      "255.255.255.255",
      "::1",
      "fe80::1",
      "ff02::1",
      "*",
      "not a host",
    ]
  ) {
    const { error } = interceptSchema.safeParse({ ...GOOD, addresses: [address] });
    assert.deepEqual(error?.issues[0]?.path, ["addresses", 0], address);
  }
});

Deno.test("intercept.v1 refuses missing, unknown and impossible fields", () => {
  const { addresses: _, ...missing } = GOOD;
  for (
    const data of [
      missing,
      { ...GOOD, addresses: [] },
      { ...GOOD, portRanges: [] },
      { ...GOOD, portRanges: [{ low: 10, high: 9 }] },
      { ...GOOD, portRanges: [{ low: 0, high: 9 }] },
      { ...GOOD, portRanges: [{ low: 1, high: 65_536 }] },
      { ...GOOD, protocols: ["icmp"] },
      { ...GOOD, protocols: [] },
      { ...GOOD, sourceIp: "10.0.0.1" },
      { ...GOOD, dialOptions: { connectTimeoutSeconds: 0 } },
      { ...GOOD, dialOptions: { identity: "x" } },
      { ...GOOD, addresses: Array(257).fill("a.example") },
      [],
      null,
      undefined,
    ]
  ) assert.equal(readIntercept(data), undefined, JSON.stringify(data));
});
