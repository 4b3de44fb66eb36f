import assert from "node:assert/strict";
import fc from "fast-check";
import { utf8 } from "../../src/base/bytes.ts";
import { ProtocolError } from "../../src/base/errors.ts";
import {
  decodeRequestHead,
  encodeForwardedHead,
  encodeProxyResponse,
  type HttpRequestHead,
  MAX_REQUEST_HEAD,
  readProxyTarget,
} from "../../src/wire/http_connect.ts";

function head(text: string): HttpRequestHead {
  const decoded = decodeRequestHead(utf8(text));
  assert.ok(decoded !== undefined);
  return decoded;
}

function get(target: string, fields = "Host: h\r\n"): HttpRequestHead {
  return head(`GET ${target} HTTP/1.1\r\n${fields}\r\n`);
}

function assertStatus(run: () => unknown, status: number): void {
  assert.throws(run, (error) => error instanceof ProtocolError && error.wireCode === status);
}

Deno.test("decodeRequestHead() reads method, target, version and fields, at every truncation", () => {
  const text = "CONNECT svc:443 HTTP/1.1\r\nHost: svc:443\r\nX-Empty:\r\nX-Odd: \t a\xe9b \t\r\n\r\n";
  const bytes = Uint8Array.from(text, (c) => c.charCodeAt(0));
  for (let end = 0; end < bytes.length; end++) {
    assert.equal(decodeRequestHead(bytes.subarray(0, end)), undefined);
  }
  const expected = {
    method: "CONNECT",
    target: "svc:443",
    version: "1.1",
    fields: [["Host", "svc:443"], ["X-Empty", ""], ["X-Odd", "a\xe9b"]],
    length: bytes.length,
  };
  assert.deepEqual(decodeRequestHead(bytes), expected);
  assert.deepEqual(decodeRequestHead(Uint8Array.of(...bytes, 13, 10, 13, 10)), expected);
});

Deno.test("decodeRequestHead() accepts heads up to the limit and answers larger ones with 431", () => {
  const make = (length: number) => {
    const frame = "GET http://a/ HTTP/1.1\r\nHost: a\r\nX: \r\n\r\n";
    return utf8(frame.replace("X: ", `X: ${"y".repeat(length - frame.length)}`));
  };
  assert.equal(decodeRequestHead(make(MAX_REQUEST_HEAD))?.length, MAX_REQUEST_HEAD);
  assertStatus(() => decodeRequestHead(make(MAX_REQUEST_HEAD + 1)), 431);
  assert.equal(decodeRequestHead(make(MAX_REQUEST_HEAD + 1).subarray(0, MAX_REQUEST_HEAD - 1)), undefined);
  assertStatus(() => decodeRequestHead(new Uint8Array(MAX_REQUEST_HEAD)), 431);
});

Deno.test("decodeRequestHead() refuses malformed request lines [RFC9112-3]", () => {
  for (
    const line of [
      "",
      "GET",
      "GET /",
      "GET  / HTTP/1.1",
      " GET / HTTP/1.1",
      "GET / HTTP/1.1 ",
      "GET / HTTP/1.12",
      "GET / http/1.1",
      "G@T / HTTP/1.1",
      "GET /\x7f HTTP/1.1",
      "GET\t/ HTTP/1.1",
    ]
  ) assertStatus(() => head(`${line}\r\nHost: h\r\n\r\n`), 400);
  for (const version of ["0.9", "1.2", "2.0"]) {
    assertStatus(() => head(`GET / HTTP/${version}\r\nHost: h\r\n\r\n`), 505);
  }
});

Deno.test("decodeRequestHead() refuses white space before a colon [RFC9112-5.1] and folding", () => {
  for (
    const line of ["A : b", "A\t: b", " a: b", "a: b\r\n folded", "nocolon", ": b", "a: b\0", "a: b\nc: d"]
  ) {
    assertStatus(() => head(`GET / HTTP/1.1\r\nHost: h\r\n${line}\r\n\r\n`), 400);
  }
});

Deno.test("decodeRequestHead() wants exactly one Host [RFC9112-3.2]", () => {
  assertStatus(() => head("GET / HTTP/1.1\r\n\r\n"), 400);
  assertStatus(() => head("GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n"), 400);
  assertStatus(() => head("GET / HTTP/1.0\r\nHost: a\r\nhost: a\r\n\r\n"), 400);
  assert.equal(head("CONNECT a:1 HTTP/1.0\r\n\r\n").version, "1.0");
});

Deno.test("readProxyTarget() refuses a CONNECT without a valid port [RFC9110-9.3.6]", () => {
  for (
    const target of [
      "svc",
      "svc:",
      "svc:0",
      "svc:65536",
      "svc:1x",
      ":80",
      "/",
      "http://svc/",
      "u@svc:80",
      "::1:80",
    ]
  ) {
    assertStatus(() => readProxyTarget(head(`CONNECT ${target} HTTP/1.1\r\nHost: h\r\n\r\n`)), 400);
  }
  assert.deepEqual(readProxyTarget(head("CONNECT [::1]:80 HTTP/1.1\r\nHost: h\r\n\r\n")), {
    kind: "tunnel",
    address: { hostname: "::1", port: 80 },
  });
});

Deno.test("readProxyTarget() reads absolute-form and refuses all other forms", () => {
  const rows = [
    ["http://svc/", "svc", 80, "svc", "/"],
    ["http://svc", "svc", 80, "svc", "/"],
    ["HTTP://svc:/a", "svc", 80, "svc:", "/a"],
    [
      "http://svc.ginnel.internal:8080/a/b?c=d://e",
      "svc.ginnel.internal",
      8080,
      "svc.ginnel.internal:8080",
      "/a/b?c=d://e",
    ],
    ["http://svc?q", "svc", 80, "svc", "/?q"],
    ["http://[::1]/", "::1", 80, "[::1]", "/"],
  ] as const;
  for (const [target, hostname, port, authority, origin] of rows) {
    assert.deepEqual(readProxyTarget(get(target)), {
      kind: "request",
      address: { hostname, port },
      authority,
      origin,
    });
  }
  for (
    const target of [
      "/",
      "*",
      "svc:80",
      "https://svc/",
      "ftp://svc/",
      "http://",
      "http:///x",
      "http://u:p@svc/",
      "http://a b/",
    ]
  ) {
    assertStatus(() => readProxyTarget(get(target)), 400);
  }
});

Deno.test("encodeForwardedHead() replaces Host and Connection, and drops what is for this hop [RFC9110-7.6.1] [RFC9112-3.2.2] [RFC9110-7.6.3]", () => {
  const request = get(
    "http://svc:81/p?q",
    "Host: evil\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: Basic x\r\nX-Keep: 1\r\n" +
      "Connection: X-Drop, Content-Length\r\nX-Drop: 2\r\nContent-Length: 3\r\nUpgrade: h2c\r\n",
  );
  const target = readProxyTarget(request);
  assert.ok(target.kind === "request");
  assert.equal(
    new TextDecoder().decode(encodeForwardedHead(request, target)),
    "GET /p?q HTTP/1.1\r\nHost: svc:81\r\nX-Keep: 1\r\nContent-Length: 3\r\nVia: 1.1 ginnel\r\nConnection: close\r\n\r\n",
  );
});

Deno.test("encodeProxyResponse() carries one line of harmless text", () => {
  assert.equal(
    new TextDecoder().decode(encodeProxyResponse(404, "No such\r\nservice \u2603", [["X", "y"]])),
    "HTTP/1.1 404 Not Found\r\nContent-Type: text/plain; charset=us-ascii\r\nContent-Length: 19\r\nX: y\r\n" +
      "Connection: close\r\n\r\nNo such??service ?\n",
  );
});

Deno.test("any bytes decode, need more, or are refused with an HTTP status", () => {
  const pieces = fc.constantFrom(
    ..."GET |CONNECT |http://|a:1| |HTTP/1.1|\r\n|\r\n\r\n|Host: a|: |\0|\t|,|chunked".split("|"),
  );
  fc.assert(
    fc.property(fc.array(fc.oneof(pieces, fc.string({ maxLength: 3 })), { maxLength: 12 }), (parts) => {
      try {
        const decoded = decodeRequestHead(utf8(parts.join("")));
        if (decoded !== undefined) readProxyTarget(decoded);
      } catch (error) {
        assert.ok(error instanceof ProtocolError && error.wireCode >= 400);
      }
    }),
  );
});
