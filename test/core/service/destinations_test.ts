/** Which destinations a list lets through. */

import assert from "node:assert/strict";
import { parseIp } from "../../../src/base/ip.ts";
import {
  DestinationList,
  formatDestination,
  parseDestination,
} from "../../../src/core/service/destinations.ts";

function list(...texts: string[]): DestinationList {
  return new DestinationList(texts.map((text) => {
    const parsed = parseDestination(text);
    assert.ok(parsed !== undefined, text);
    return parsed;
  }));
}

function allows(entries: string[], address: string, port = 80): boolean {
  return list(...entries).allowsAddress(parseIp(address)!, port);
}

Deno.test("destinations are read and written back", () => {
  for (
    const [text, written = text] of [
      ["10.0.0.0/8"],
      ["10.1.2.3/8", "10.0.0.0/8"],
      ["10.0.0.1"],
      ["10.0.0.1:80"],
      ["10.0.0.0/8:80-90"],
      ["::1"],
      ["[::1]", "::1"],
      ["[::1]:53"],
      ["fd00::/8"],
      ["[fd00::/8]:1-2"],
      ["Db.Example.", "db.example"],
      ["*.example:443"],
      ["localhost:1-65535", "localhost"],
      ["::ffff:127.0.0.1", "127.0.0.1"],
    ] as const
  ) assert.equal(formatDestination(parseDestination(text)!), written);
});

Deno.test("what is no destination is refused", () => {
  for (
    const text of [
      "",
      "*",
      "*:80",
      "*.",
      "a.*.b",
      "10.0.0.0/33",
      "10.0.0.1:0",
      "10.0.0.1:65536",
      "10.0.0.1:9-8",
      "10.0.0.1:",
      "10.0.0.1:80,81",
      "127.1",
      "2130706433",
      "[db.example]:80",
      "[::1",
      "::1:80:",
      "http://x",
      "a b",
      "-x.example",
    ]
  ) assert.equal(parseDestination(text), undefined, text);
});

Deno.test("an address passes only by a prefix and port of the list", () => {
  assert.ok(allows(["10.0.0.0/8"], "10.255.0.1"));
  assert.ok(!allows(["10.0.0.0/8"], "11.0.0.0"));
  assert.ok(!allows(["10.0.0.0/8:443"], "10.0.0.1", 80));
  assert.ok(allows(["10.0.0.0/8:79-80"], "10.0.0.1", 80));
  assert.ok(!allows(["*.example", "localhost"], "127.0.0.1"));
  assert.ok(!allows(["0.0.0.0/0"], "::1"));
  assert.ok(!allows(["127.0.0.0/8"], "0.0.0.0"));
});

Deno.test("an IPv4 address written as an IPv6 one is judged as the IPv4 address it reaches", () => {
  assert.ok(allows(["127.0.0.0/8"], "::ffff:127.0.0.1"));
  assert.ok(!allows(["::/0"], "::ffff:127.0.0.1"));
  assert.ok(allows(["::ffff:127.0.0.0/104"], "127.9.9.9"));
});

Deno.test("a name passes by itself or a wildcard above it, never by its end alone", () => {
  const names = list("db.example", "*.corp.example:443");
  assert.ok(names.allowsName("db.example", 5432));
  assert.ok(names.allowsName("a.b.corp.example", 443));
  assert.ok(!names.allowsName("a.b.corp.example", 80));
  assert.ok(!names.allowsName("corp.example", 443));
  assert.ok(!names.allowsName("evilcorp.example", 443));
  assert.ok(!names.allowsName("xdb.example", 5432));
});

Deno.test("what could pass is known before anything is resolved", () => {
  const ports = [{ low: 80, high: 90 }];
  const cases: [string[], string, boolean][] = [
    [["10.0.0.0/8"], "10.1.0.0/16", true],
    [["10.1.0.0/16"], "10.0.0.0/8", true],
    [["10.0.0.0/8"], "192.168.0.1", false],
    [["10.0.0.0/8:443"], "10.0.0.1", false],
    [["10.0.0.0/8:85"], "10.0.0.1", true],
    [["10.0.0.0/8"], "db.example", true],
    [["db.example"], "db.example", true],
    [["db.example"], "10.0.0.1", false],
    [["db.example"], "*.example", true],
    [["*.example"], "*.corp.example", true],
    [["*.corp.example"], "*.example", true],
    [["*.example"], "*.other", false],
    [["*.example"], "not a name", false],
  ];
  for (const [entries, text, expected] of cases) {
    assert.equal(list(...entries).couldAllow(text, ports), expected, `${entries} ${text}`);
  }
});
