import assert from "node:assert/strict";
import { ago, describeStatus } from "../../src/cli/status_text.ts";
import type { AgentStatus } from "../../src/modes/agent/agent_status.ts";

const NOW = Date.parse("2026-03-01T12:00:00.000Z");
const at = (secondsAgo: number) => new Date(NOW - secondsAgo * 1_000).toISOString();

const STATUS: AgentStatus = {
  mode: "agent",
  version: "1.2.3",
  pid: 42,
  started: at(3 * 3_600),
  state: "connected",
  problems: [],
  identity: { id: "spiffe://clinic.example/agent/alice", kind: "agent", expires: at(-9 * 86_400) },
  relays: [{
    name: "relay-1",
    address: "192.0.2.1:4433",
    connected: true,
    draining: false,
    since: at(120),
    rttMs: 12.5,
    carrier: "quic",
  }, {
    name: "relay-2",
    address: "192.0.2.2:4433",
    connected: false,
    draining: false,
    problem: "no answer",
  }],
  controller: { names: ["controller-1"], asOf: at(5) },
  view: { revision: 7, issued: at(5), expires: at(-86_400) },
  zone: "ginnel.internal",
  services: [{
    name: "web",
    names: ["web.ginnel.internal"],
    addresses: { ipv4: "10.101.0.16", ipv6: "fd00::10" },
    ports: ["80", "443"],
    protocols: ["tcp"],
    endToEnd: "required",
    path: {
      kind: "relay",
      relay: "relay-1",
      connector: "spiffe://clinic.example/connector/front",
      carrier: "tls",
    },
    flows: 2,
    lastUsed: at(130),
    notes: [],
  }, {
    name: "dns",
    names: ["dns.ginnel.internal"],
    addresses: { ipv4: "10.101.0.17", ipv6: "fd00::11", local: "127.101.0.17" },
    ports: [],
    protocols: ["tcp", "udp"],
    endToEnd: "required",
    flows: 0,
    notes: ["udp 53 is at 10053 here"],
  }],
  listeners: [{ name: "socks5", address: "127.0.0.1:1080" }],
  parts: { tunnel: { state: "on", detail: "ginnel0 carries packets" } },
};

Deno.test("a person reads state, relays, services and times as lengths", () => {
  const text = describeStatus(STATUS, { now: NOW, inColour: false });
  assert.match(text, /^state +connected, version 1\.2\.3, pid 42, started 3 h ago$/m);
  assert.match(text, /^identity +spiffe:\/\/clinic\.example\/agent\/alice, valid for 9 days$/m);
  assert.match(text, /^relay +relay-1 at 192\.0\.2\.1:4433, connected since 2 min ago by quic, 12\.5 ms$/m);
  assert.match(text, /^relay +relay-2 at 192\.0\.2\.2:4433, not connected: no answer$/m);
  assert.match(text, /^controller +controller-1, last word 5 s ago$/m);
  assert.match(text, /^rights +revision 7, valid for 24 h$/m);
  assert.match(text, /^tunnel +on, ginnel0 carries packets$/m);
  assert.match(
    text,
    /^web +web\.ginnel\.internal +10\.101\.0\.16 +tcp 80,443 +relay-1 > front +2 +2 min ago$/m,
  );
  assert.match(text, /^dns +dns\.ginnel\.internal +127\.101\.0\.17 +tcp\+udp all +- +0 +never$/m);
  assert.match(text, /^dns: udp 53 is at 10053 here$/m);
  assert.ok(!text.includes("\x1b"));
});

Deno.test("what is wrong is told last, each with what to do, and in colour on a terminal", () => {
  const problems = [{ text: "no relay is connected", hint: "Find out what is in the way: ginnel doctor" }];
  const status: AgentStatus = { ...STATUS, state: "disconnected", problems, services: [] };
  const text = describeStatus(status, { now: NOW, inColour: true });
  assert.ok(text.includes("\x1b[31mdisconnected\x1b[0m"), text);
  assert.match(text, /Policy grants no services/);
  assert.ok(text.endsWith(" no relay is connected\n  -> Find out what is in the way: ginnel doctor\n"), text);
  const { view: _, ...blind } = status;
  assert.match(
    describeStatus(blind, { now: NOW, inColour: false }),
    /rights +none in force[^]*No services are known/,
  );
  const expired = { ...STATUS, identity: { ...STATUS.identity, expires: at(60) } };
  assert.match(describeStatus(expired, { now: NOW, inColour: false }), /alice, expired 1 min ago$/m);
});

Deno.test("lengths of time are given in the unit that fits", () => {
  const rows: [number, string][] = [
    [0, "just now"],
    [59, "59 s ago"],
    [60, "1 min ago"],
    [3_599, "59 min ago"],
    [3_600, "1 h ago"],
    [47 * 3_600, "47 h ago"],
    [48 * 3_600, "2 days ago"],
  ];
  for (const [seconds, text] of rows) assert.equal(ago(at(seconds), NOW), text);
});
