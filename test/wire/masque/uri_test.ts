import assert from "node:assert/strict";
import fc from "fast-check";
import {
  AGENT_PATH,
  CONNECTOR_PATH,
  ipPath,
  parseMasquePath,
  sessionPath,
  tcpPath,
  udpPath,
  VIEW_PATH,
} from "../../../src/wire/masque/uri.ts";

Deno.test("tcpPath() and udpPath() expand the default templates [RFC9298-2]", () => {
  assert.equal(tcpPath({ host: "rtmx-sync", port: 443 }), "/.well-known/masque/tcp/rtmx-sync/443/");
  assert.equal(udpPath({ host: "192.0.2.6", port: 443 }), "/.well-known/masque/udp/192.0.2.6/443/");
  assert.equal(
    udpPath({ host: "2001:db8::42", port: 443 }),
    "/.well-known/masque/udp/2001%3Adb8%3A%3A42/443/",
  );
});

Deno.test("ipPath() expands the default template [RFC9484-4.6]", () => {
  assert.equal(ipPath({ target: "*", ipproto: "*" }), "/.well-known/masque/ip/%2A/%2A/");
  assert.equal(
    ipPath({ target: "2001:db8::/32", ipproto: 17 }),
    "/.well-known/masque/ip/2001%3Adb8%3A%3A%2F32/17/",
  );
});

Deno.test("paths survive the round trip", () => {
  for (
    const target of [
      { host: "a", port: 1 },
      { host: "rtmx-sync.ginnel.internal", port: 65_535 },
      { host: "10.100.0.1", port: 80 },
      { host: "2001:db8::1", port: 443 },
      { host: "x_y.z-1", port: 22 },
    ]
  ) {
    assert.deepEqual(parseMasquePath(tcpPath(target)), { kind: "tcp", ...target });
    assert.deepEqual(parseMasquePath(udpPath(target)), { kind: "udp", ...target });
  }
  for (const target of ["*", "example.com", "10.0.0.0/8", "0.0.0.0/0", "::/0", "2001:db8::/128", "::1"]) {
    for (const ipproto of ["*", 0, 6, 255] as const) {
      assert.deepEqual(parseMasquePath(ipPath({ target, ipproto })), { kind: "ip", target, ipproto });
    }
  }
  assert.deepEqual(parseMasquePath(VIEW_PATH), { kind: "view" });
  assert.deepEqual(parseMasquePath(CONNECTOR_PATH), { kind: "connector" });
  assert.deepEqual(parseMasquePath(AGENT_PATH), { kind: "agent" });
});

Deno.test("sessionPath() carries any visible ASCII", () => {
  const visible = fc.integer({ min: 0x21, max: 0x7e }).map((code) => String.fromCharCode(code));
  const name = fc.array(visible, { minLength: 1, maxLength: 100 }).map((characters) => characters.join(""));
  fc.assert(fc.property(name, (connector) => {
    const path = sessionPath(connector);
    assert.equal(path.split("/").length, 6);
    assert.deepEqual(parseMasquePath(path), { kind: "session", connector });
  }));
  const longest = "/".repeat(512);
  assert.deepEqual(parseMasquePath(sessionPath(longest)), { kind: "session", connector: longest });
});

Deno.test("parseMasquePath() makes hosts lower case and takes unencoded colons", () => {
  assert.deepEqual(parseMasquePath("/.well-known/masque/tcp/RTMX-Sync/443/"), {
    kind: "tcp",
    host: "rtmx-sync",
    port: 443,
  });
  assert.deepEqual(parseMasquePath("/.well-known/masque/tcp/2001:DB8::1/443/"), {
    kind: "tcp",
    host: "2001:db8::1",
    port: 443,
  });
  assert.deepEqual(parseMasquePath("/.well-known/masque/tcp/%72tmx/%34%34/"), {
    kind: "tcp",
    host: "rtmx",
    port: 44,
  });
});

Deno.test("parseMasquePath() refuses what is one character away from a good path [RFC9298-2] [RFC9484-4.6]", () => {
  const good = ["/.well-known/masque/tcp/svc/443/", "/.well-known/masque/ip/10.0.0.0%2F8/6/"];
  for (const path of good) assert.ok(parseMasquePath(path), path);
  for (
    const path of [
      "",
      "/",
      "/.well-known/masque/tcp/svc/443",
      "/.well-known/masque/tcp/svc/443//",
      "/.well-known/masque/tcp/svc/443/x",
      "/.well-known/masque/tcp/svc/443/?x",
      "/.well-known/masque/tcp/svc/443/#x",
      "//.well-known/masque/tcp/svc/443/",
      "/.well-known/masque/tcp/svc/0/",
      "/.well-known/masque/tcp/svc/65536/",
      "/.well-known/masque/tcp/svc/0443/",
      "/.well-known/masque/tcp/svc/+443/",
      "/.well-known/masque/tcp/svc/4e2/",
      "/.well-known/masque/tcp/svc//",
      "/.well-known/masque/tcp//443/",
      "/.well-known/masque/tcp/svc%/443/",
      "/.well-known/masque/tcp/svc%2/443/",
      "/.well-known/masque/tcp/svc%zz/443/",
      "/.well-known/masque/tcp/svc%00/443/",
      "/.well-known/masque/tcp/svc%2F/443/",
      "/.well-known/masque/tcp/%C3%A9/443/",
      "/.well-known/masque/tcp/..%2F/443/",
      "/.well-known/masque/tcp/-svc/443/",
      "/.well-known/masque/tcp/svc./443/",
      "/.well-known/masque/tcp/1.2.3/443/",
      "/.well-known/masque/tcp/01.2.3.4/443/",
      "/.well-known/masque/tcp/::g/443/",
      "/.well-known/masque/tcp/fe80::1%25eth0/443/",
      "/.well-known/masque/tcp/[::1]/443/",
      "/.well-known/masque/tcp/*/443/",
      `/.well-known/masque/tcp/${"a.".repeat(126)}ab/443/`,
      `/.well-known/masque/tcp/${"a".repeat(64)}/443/`,
      "/.well-known/masque/sctp/svc/443/",
      "/.well-known/masque/ip/10.0.0.0%2F33/6/",
      "/.well-known/masque/ip/10.0.0.1%2F8/6/",
      "/.well-known/masque/ip/2001:db8::1%2F64/6/",
      "/.well-known/masque/ip/10.0.0.0%2F08/6/",
      "/.well-known/masque/ip/10.0.0.0%2F/6/",
      "/.well-known/masque/ip/10.0.0.0%2F8%2F8/6/",
      "/.well-known/masque/ip/10.0.0.0/8/6/",
      "/.well-known/masque/ip/svc%2F8/6/",
      "/.well-known/masque/ip/::%2F129/6/",
      "/.well-known/masque/ip/*/256/",
      "/.well-known/masque/ip/*/-1/",
      "/.well-known/ginnel/views",
      "/.well-known/ginnel/view/",
      "/.well-known/ginnel/session//",
      "/.well-known/ginnel/session/a",
      "/.well-known/ginnel/session/a/b",
      "/.well-known/ginnel/session/a/b/",
      "/.well-known/ginnel/session/a%20b/",
      `/.well-known/ginnel/session/${"a".repeat(513)}/`,
    ]
  ) assert.equal(parseMasquePath(path), undefined, path);
});

Deno.test("paths to what cannot be a target are refused", () => {
  for (const host of ["", "a b", "a/b", "1.2.3", "fe80::1%eth0", "é"]) {
    assert.throws(() => tcpPath({ host, port: 1 }), RangeError, host);
  }
  for (const port of [0, -1, 65_536, 1.5, NaN]) assert.throws(() => udpPath({ host: "a", port }), RangeError);
  assert.throws(() => ipPath({ target: "a/8", ipproto: "*" }), RangeError);
  assert.throws(() => ipPath({ target: "*", ipproto: 256 }), RangeError);
  for (const connector of ["", "a b", "é", "x".repeat(513)]) {
    assert.throws(() => sessionPath(connector), RangeError);
  }
});

Deno.test("parseMasquePath() never throws, and what it reads it would write the same", () => {
  const piece = fc.constantFrom(
    "/.well-known/masque/",
    "/.well-known/ginnel/",
    "tcp/",
    "ip/",
    "session/",
    "svc",
    "443/",
    "/",
    "%",
  )
    .chain((known) => fc.oneof(fc.constant(known), fc.string({ maxLength: 6 })));
  fc.assert(fc.property(fc.array(piece, { maxLength: 8 }), (pieces) => {
    const parsed = parseMasquePath(pieces.join(""));
    if (parsed?.kind === "tcp") assert.deepEqual(parseMasquePath(tcpPath(parsed)), parsed);
    if (parsed?.kind === "ip") assert.deepEqual(parseMasquePath(ipPath(parsed)), parsed);
    if (parsed?.kind === "session") assert.deepEqual(parseMasquePath(sessionPath(parsed.connector)), parsed);
  }));
});
