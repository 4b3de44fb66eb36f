/** `host.v1` takes OpenZiti's definitions; nothing is forwarded that no list allows. */

import assert from "node:assert/strict";
import { type Host, hostSchema, readHost } from "../../../src/core/service/host.ts";

const GOOD = { protocol: "tcp", address: "localhost", port: 8000 } as const;

const FULL: Host = {
  forwardProtocol: true,
  allowedProtocols: ["tcp", "udp"],
  forwardAddress: true,
  allowedAddresses: ["*.db.example", "10.0.0.0/8", "one.example"],
  forwardPort: true,
  allowedPortRanges: [{ low: 5432, high: 5440 }],
  portChecks: [{
    address: "[::1]:5432",
    interval: "5s",
    timeout: "500ms",
    actions: [
      { trigger: "fail", consecutiveEvents: 3, action: "mark unhealthy" },
      { trigger: "pass", duration: "1m30s", action: "decrease cost 100" },
    ],
  }],
  httpChecks: [{
    url: "http://localhost:8000/health",
    method: "POST",
    body: "{}",
    expectStatus: 204,
    expectInBody: "ok",
    interval: "10s",
    timeout: "1s",
  }],
  listenOptions: { cost: 65_535, precedence: "required", maxConnections: 5, connectTimeoutSeconds: 7 },
};

Deno.test("S1's host.v1 is valid as it is, and so is one with every field", () => {
  assert.deepEqual(hostSchema.parse(GOOD), GOOD);
  assert.deepEqual(hostSchema.parse(FULL), FULL);
});

Deno.test("host.v1 wants exactly one of a fixed value and a forwarded one, and the latter's list", () => {
  const { allowedPortRanges: _, ...unlisted } = FULL;
  const { port: __, ...portless } = GOOD;
  for (
    const [data, field] of [
      [unlisted, "allowedPortRanges"],
      [portless, "port"],
      [{ ...GOOD, forwardPort: true, allowedPortRanges: [{ low: 1, high: 2 }] }, "forwardPort"],
      [{ ...GOOD, allowedAddresses: ["a.example"] }, "allowedAddresses"],
      [{ ...GOOD, forwardProtocol: false }, "forwardProtocol"],
      [{ ...FULL, allowedAddresses: [] }, "allowedAddresses"],
    ] as const
  ) {
    const { error } = hostSchema.safeParse(data);
    assert.equal(error?.issues[0]?.path[0], field, JSON.stringify(data));
  }
});

Deno.test("host.v1 refuses unknown fields and values out of bounds", () => {
  const check = FULL.portChecks![0]!;
  const http = FULL.httpChecks![0]!;
  const action = check.actions![0]!;
  for (
    const data of [
      { ...GOOD, allowedSourceAddresses: ["10.0.0.0/8"] },
      { ...GOOD, address: "10.0.0.0/8" },
      { ...GOOD, address: "*.example" },
      { ...GOOD, address: "unix:/run/a" },
      { ...GOOD, port: 0 },
      { ...GOOD, protocol: "icmp" },
      { ...GOOD, listenOptions: { cost: -1 } },
      { ...GOOD, listenOptions: { cost: 65_536 } },
      { ...GOOD, listenOptions: { precedence: "first" } },
      { ...GOOD, portChecks: Array(17).fill(check) },
      { ...GOOD, portChecks: [{ ...check, address: "localhost" }] },
      { ...GOOD, portChecks: [{ ...check, address: "localhost:0" }] },
      { ...GOOD, portChecks: [{ ...check, interval: "10ms" }] },
      { ...GOOD, portChecks: [{ ...check, interval: 5 }] },
      { ...GOOD, portChecks: [{ ...check, timeout: "2h" }] },
      { ...GOOD, portChecks: [{ ...check, actions: [{ ...action, action: "reboot" }] }] },
      { ...GOOD, portChecks: [{ ...check, actions: [{ ...action, action: "increase cost 1e9" }] }] },
      { ...GOOD, httpChecks: [{ ...http, url: "file:///etc/passwd" }] },
      { ...GOOD, httpChecks: [{ ...http, expectStatus: 99 }] },
      { ...GOOD, httpChecks: [{ ...http, method: "DELETE" }] },
    ]
  ) assert.equal(readHost(data), undefined, JSON.stringify(data));
});
