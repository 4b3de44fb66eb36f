import assert from "node:assert/strict";
import { type JournalData, readJournalData } from "../../../src/io/network/journal_data.ts";

const FULL: JournalData = {
  interface: { up: false, mtu: 1_500, addressGeneration: "eui64", addresses: ["10.0.0.7/24", "fd10::7/64"] },
  pins: ["192.0.2.5", "2001:db8::5"],
  nat: { settings: [{ path: "net/ipv4/ip_forward", before: "0", after: "1" }] },
  killSwitch: true,
  refused: ["10.101.0.0/16", "fd12::/64"],
  resolver: { kind: "overwritten", text: "nameserver 192.0.2.53\n" },
};

Deno.test("readJournalData() reads what was written, whole or in parts", () => {
  assert.deepEqual(readJournalData(JSON.stringify(FULL)), FULL);
  for (const [key, value] of Object.entries(FULL)) {
    assert.deepEqual(readJournalData(JSON.stringify({ [key]: value })), { [key]: value });
  }
  assert.deepEqual(readJournalData("{}"), {});
});

Deno.test("readJournalData() refuses a text that ends early, wherever", () => {
  const text = JSON.stringify(FULL);
  for (let end = 0; end < text.length; end++) assert.equal(readJournalData(text.slice(0, end)), undefined);
});

Deno.test("readJournalData() refuses what could become a command or a file of somebody else's choice", () => {
  const setting = (path: string, before = "0") => ({ nat: { settings: [{ path, before, after: "1" }] } });
  const host = (address: string) => ({ interface: { ...FULL.interface, addresses: [address] } });
  for (
    const data of [
      { pins: ["192.0.2.5 dev eth0\nroute flush table main"] },
      { pins: ["192.0.2.5/8"] },
      { pins: "192.0.2.5" },
      host("10.0.0.7/24 dev eth0"),
      host("10.0.0.7/33"),
      host("10.0.0.7"),
      host("fd10::7/129"),
      { interface: { ...FULL.interface, addressGeneration: "eui64\nlink del eth0" } },
      { interface: { ...FULL.interface, mtu: "1500" } },
      setting("net/ipv4/conf/../../../kernel/core_pattern"),
      setting("net/ipv4/conf/.././forwarding"),
      setting("net/ipv4/conf/../forwarding"),
      setting("net/ipv4/conf/eth0/rp_filter"),
      setting("/etc/passwd"),
      setting("net/ipv4/ip_forward\n"),
      setting("net/ipv4/ip_forward", "0\n1"),
      { killSwitch: false },
      { refused: ["10.101.0.0/16 dev eth0"] },
      { resolver: { kind: "overwritten" } },
      { resolver: { kind: "overwritten", text: "x".repeat(65_537) } },
      { resolver: { kind: "other" } },
      { unknown: 1 },
      { toString: 1 },
      [],
      null,
    ]
  ) assert.equal(readJournalData(JSON.stringify(data)), undefined, JSON.stringify(data).slice(0, 100));
});
