import assert from "node:assert/strict";
import {
  controlMessageSchema,
  flowHeaderSchema,
  flowStatusSchema,
  viewMessageSchema,
} from "../../../src/wire/control/messages.ts";
import { encodeMessage, MAX_MESSAGE } from "../../../src/wire/control/framing.ts";

const FLOW = {
  v: 1,
  kind: "flow",
  flow: "18446744073709551615",
  service: "rtmx-sync",
  port: 443,
  protocol: "tcp",
  caller: "spiffe://acme.example/agent/alice",
  sealed: true,
};

Deno.test("control messages of every kind are read as they were written", () => {
  for (
    const message of [
      { type: "bind", services: [{ name: "rtmx-sync", protocol: "tcp", healthy: true }] },
      {
        type: "bind",
        services: [{ name: "web", protocol: "tcp", healthy: true, cost: 65_535, precedence: "required" }],
      },
      { type: "bound", service: "rtmx-sync", ok: true },
      { type: "bound", service: "rtmx-sync", ok: false, reason: "no policy" },
      { type: "unbind", services: ["claude-api.ziti"] },
      { type: "health", service: "rtmx-sync", healthy: false },
      { type: "health", service: "rtmx-sync", healthy: true, cost: 0, precedence: "failed" },
      { type: "drain", seconds: 30 },
    ]
  ) assert.deepEqual(controlMessageSchema.parse(message), message);
});

Deno.test("control messages lose members they do not have", () => {
  assert.deepEqual(controlMessageSchema.parse({ type: "drain", seconds: 1, why: "x" }), {
    type: "drain",
    seconds: 1,
  });
});

Deno.test("messages of an unknown type come out as unknown, in either schema", () => {
  for (const schema of [controlMessageSchema, viewMessageSchema]) {
    assert.deepEqual(schema.parse({ type: "punch", candidates: [] }), { type: "unknown" });
  }
  assert.deepEqual(controlMessageSchema.parse({ type: "view" }), { type: "unknown" });
});

Deno.test("control messages one fault away from a good one are refused", () => {
  for (
    const message of [
      {},
      { type: 1 },
      { type: "bind" },
      { type: "bind", services: [] },
      { type: "bind", services: [{ name: "rtmx-sync", protocol: "udp", healthy: true }] },
      { type: "bind", services: [{ name: "rtmx-sync", protocol: "tcp" }] },
      { type: "bind", services: [{ name: "RTMX", protocol: "tcp", healthy: true }] },
      { type: "bind", services: [{ name: "a b", protocol: "tcp", healthy: true }] },
      { type: "bind", services: [{ name: "", protocol: "tcp", healthy: true }] },
      { type: "bind", services: [{ name: "x", protocol: "tcp", healthy: true, cost: 65_536 }] },
      { type: "health", service: "x", healthy: true, cost: -1 },
      { type: "health", service: "x", healthy: true, precedence: "first" },
      { type: "bound", service: "x" },
      { type: "unbind", services: "x" },
      { type: "health", service: "x", healthy: "yes" },
      { type: "drain", seconds: -1 },
      { type: "drain", seconds: 0.5 },
      { type: "drain", seconds: 3601 },
      { type: "bound", service: "x", ok: false, reason: "x".repeat(257) },
    ]
  ) assert.ok(!controlMessageSchema.safeParse(message).success, JSON.stringify(message));
});

Deno.test("a bind of as many services as allowed fits one message", () => {
  const services = Array.from({ length: 128 }, (_, i) => ({
    name: `${"service".repeat(8)}-${i}`,
    protocol: "tcp",
    healthy: false,
  }));
  assert.ok(controlMessageSchema.safeParse({ type: "bind", services }).success);
  assert.ok(encodeMessage({ type: "bind", services }).length <= MAX_MESSAGE);
  assert.ok(!controlMessageSchema.safeParse({ type: "bind", services: [...services, services[0]] }).success);
});

Deno.test("flow headers are read as they were written", () => {
  const session = { v: 1, kind: "session", flow: "0", protocol: "tcp", caller: FLOW.caller, sealed: true };
  const datagrams = { ...FLOW, protocol: "udp", maxDatagram: 1_200 };
  const { port: _, ...echo } = { ...FLOW, protocol: "icmp", maxDatagram: 0 };
  for (const header of [FLOW, session, datagrams, echo]) {
    assert.deepEqual(flowHeaderSchema.parse(header), header);
  }
});

Deno.test("flow headers one fault away from a good one are refused", () => {
  const faults = {
    v: [0, 2, "1", undefined],
    kind: ["udp", undefined],
    flow: ["18446744073709551616", "-1", "01", "1.5", "", "x", 1, "9".repeat(21)],
    service: ["a/b", "", ".", "x".repeat(201), undefined],
    port: [0, 65_536, 1.5, "443"],
    protocol: ["sctp", "UDP", undefined],
    maxDatagram: [-1, 65_536, 1.5, "1200"],
    caller: [
      "alice",
      "spiffe://",
      "spiffe://acme.example",
      "https://acme.example/agent/a",
      "spiffe://a/b\n",
      undefined,
    ],
    sealed: ["true", undefined],
  };
  for (const [member, values] of Object.entries(faults)) {
    for (const value of values) {
      const header = { ...FLOW, [member]: value };
      assert.ok(!flowHeaderSchema.safeParse(header).success, `${member}: ${JSON.stringify(value)}`);
    }
  }
});

Deno.test("flow statuses are HTTP's from 200 to 599", () => {
  assert.deepEqual(flowStatusSchema.parse({ status: 502, reason: "refused" }), {
    status: 502,
    reason: "refused",
  });
  for (const status of [199, 600, 200.5, "200", undefined]) {
    assert.ok(!flowStatusSchema.safeParse({ status }).success, `${status}`);
  }
});

Deno.test("view messages are read as they were written, and refused one fault away", () => {
  for (
    const message of [
      { type: "view", jws: "e30.e30.c2ln" },
      { type: "observed", address: "[2001:db8::1]:4433" },
      { type: "drain", seconds: 30 },
    ]
  ) assert.deepEqual(viewMessageSchema.parse(message), message);
  for (
    const message of [
      { type: "view" },
      { type: "view", jws: "e30.e30" },
      { type: "view", jws: "e30.e30.c2 ln" },
      { type: "observed", address: "x".repeat(65) },
    ]
  ) assert.ok(!viewMessageSchema.safeParse(message).success, JSON.stringify(message));
});
