import assert from "node:assert/strict";
import * as fc from "fast-check";
import { H3_MESSAGE_ERROR } from "../../../src/wire/h3/codes.ts";
import {
  checkTrailers,
  contentLength,
  readRequestHead,
  readResponseHead,
  requestFields,
  responseFields,
} from "../../../src/wire/h3/message.ts";
import type { Field } from "../../../src/wire/qpack/static_table.ts";
import { assertDeclaredErrors } from "../corpus.ts";
import { assertProtocolError, GET_FIELDS } from "./support.ts";

const CONNECT: readonly Field[] = [[":method", "CONNECT"], [":authority", "db:5432"]];
const EXTENDED: readonly Field[] = [
  [":method", "CONNECT"],
  [":protocol", "connect-tcp"],
  [":scheme", "https"],
  [":authority", "relay.example"],
  [":path", "/.well-known/masque/tcp/db/5432/"],
];

Deno.test("readRequestHead() reads what requestFields() wrote", () => {
  const head = readRequestHead(requestFields({
    method: "POST",
    authority: "relay.example",
    path: "/a?b",
    headers: [["x-one", "1"], ["x-one", "2"], ["cookie", "a=1"], ["cookie", "b=2"]],
  }));
  assert.deepEqual(head, {
    method: "POST",
    scheme: "https",
    authority: "relay.example",
    path: "/a?b",
    headers: new Map([["x-one", "1, 2"], ["cookie", "a=1; b=2"]]),
  });
});

Deno.test("readRequestHead() joins cookie crumbs with a semicolon [RFC9114-4.2.1]", () => {
  const head = readRequestHead([...GET_FIELDS, ["cookie", "a=1"], ["cookie", "b=2"]]);
  assert.equal(head.headers.get("cookie"), "a=1; b=2");
});

Deno.test("readRequestHead() takes a classic CONNECT without scheme and path [RFC9114-4.4]", () => {
  assert.deepEqual(readRequestHead(CONNECT), { method: "CONNECT", authority: "db:5432", headers: new Map() });
  assert.deepEqual(
    readRequestHead(requestFields({ method: "CONNECT", authority: "db:5432" })).authority,
    "db:5432",
  );
});

Deno.test("readRequestHead() takes an extended CONNECT with scheme, path and protocol [RFC8441-4]", () => {
  const head = readRequestHead(EXTENDED);
  assert.equal(head.protocol, "connect-tcp");
  assert.equal(head.path, "/.well-known/masque/tcp/db/5432/");
});

const FINE: readonly [name: string, fields: readonly Field[]][] = [
  ["OPTIONS *", change(GET_FIELDS, { ":method": "OPTIONS", ":path": "*" })],
  ["host instead of :authority", [...change(GET_FIELDS, { ":authority": undefined }), [
    "host",
    "relay.example",
  ]]],
  ["host beside an equal :authority", [...GET_FIELDS, ["host", "relay.example"]]],
  ["te: trailers", [...GET_FIELDS, ["te", "trailers"]]],
  ["an empty value", [...GET_FIELDS, ["x-empty", ""]]],
  ["a tab in a value", [...GET_FIELDS, ["x-tab", "a\tb"]]],
  ["content-length twice with one value", [...GET_FIELDS, ["content-length", "0"], ["content-length", "0"]]],
  [
    "another scheme without authority",
    change(GET_FIELDS, { ":scheme": "urn", ":authority": undefined, ":path": "a" }),
  ],
];

for (const [name, fields] of FINE) {
  Deno.test(`readRequestHead() takes ${name}`, () => void readRequestHead(fields));
}

const MALFORMED: readonly [name: string, fields: readonly Field[]][] = [
  ["no :method [RFC9114-4.3.1]", change(GET_FIELDS, { ":method": undefined })],
  ["an empty :method", change(GET_FIELDS, { ":method": "" })],
  ["a :method with a space", change(GET_FIELDS, { ":method": "GET /" })],
  ["no :scheme [RFC9114-4.3.1]", change(GET_FIELDS, { ":scheme": undefined })],
  ["no :path [RFC9114-4.3.1]", change(GET_FIELDS, { ":path": undefined })],
  ["an empty :path", change(GET_FIELDS, { ":path": "" })],
  ["a relative :path", change(GET_FIELDS, { ":path": "a" })],
  ["* as the :path of GET", change(GET_FIELDS, { ":path": "*" })],
  ["no authority at all [RFC9114-4.3.1]", change(GET_FIELDS, { ":authority": undefined })],
  ["an empty :authority [RFC9114-4.3.1]", change(GET_FIELDS, { ":authority": "" })],
  ["userinfo in :authority [RFC9114-4.3.1]", change(GET_FIELDS, { ":authority": "root@relay.example" })],
  ["host unlike :authority [RFC9114-4.3.1]", [...GET_FIELDS, ["host", "other.example"]]],
  ["host twice", [...GET_FIELDS, ["host", "relay.example"], ["host", "relay.example"]]],
  ["a pseudo-header field twice [RFC9114-4.3]", [...GET_FIELDS.slice(0, 2), ...GET_FIELDS.slice(1)]],
  ["an unknown pseudo-header field [RFC9114-4.3]", [[":version", "3"], ...GET_FIELDS]],
  ["a response's pseudo-header field [RFC9114-4.3]", [...GET_FIELDS, [":status", "200"]]],
  ["a pseudo-header field after a regular one [RFC9114-4.3]", [["x-a", "b"], ...GET_FIELDS]],
  [":protocol outside CONNECT [RFC8441-4]", [[":protocol", "connect-tcp"], ...GET_FIELDS]],
  ["an upper-case name [RFC9114-4.2] [RFC9114-10.3]", [...GET_FIELDS, ["X-Custom", "a"]]],
  ["an empty name [RFC9114-10.3]", [...GET_FIELDS, ["", "a"]]],
  ["a space in a name [RFC9114-10.3]", [...GET_FIELDS, ["x a", "a"]]],
  ["a line feed in a value [RFC9114-10.3]", [...GET_FIELDS, ["x-a", "a\nb: c"]]],
  ["a carriage return in a value [RFC9114-10.3]", [...GET_FIELDS, ["x-a", "a\rb"]]],
  ["a NUL in a value [RFC9114-10.3]", [...GET_FIELDS, ["x-a", "a\0"]]],
  ["a line feed in :path", change(GET_FIELDS, { ":path": "/\n" })],
  ["connection [RFC9114-4.2]", [...GET_FIELDS, ["connection", "close"]]],
  ["keep-alive [RFC9114-4.2]", [...GET_FIELDS, ["keep-alive", "1"]]],
  ["proxy-connection [RFC9114-4.2]", [...GET_FIELDS, ["proxy-connection", "close"]]],
  ["transfer-encoding [RFC9114-4.2]", [...GET_FIELDS, ["transfer-encoding", "chunked"]]],
  ["upgrade [RFC9114-4.2]", [...GET_FIELDS, ["upgrade", "websocket"]]],
  ["te beyond trailers [RFC9114-4.2]", [...GET_FIELDS, ["te", "gzip"]]],
  ["two content-lengths [RFC9110-8.6]", [...GET_FIELDS, ["content-length", "1"], ["content-length", "2"]]],
  ["a CONNECT with :path [RFC9114-4.4]", [...CONNECT, [":path", "/"]]],
  ["a CONNECT with :scheme [RFC9114-4.4]", [...CONNECT, [":scheme", "https"]]],
  ["a CONNECT without :authority [RFC9114-4.4]", change(CONNECT, { ":authority": undefined })],
  ["a CONNECT without a port [RFC9114-4.4]", change(CONNECT, { ":authority": "db" })],
  ["an extended CONNECT without :path [RFC8441-4]", change(EXTENDED, { ":path": undefined })],
  ["an extended CONNECT without :scheme [RFC8441-4]", change(EXTENDED, { ":scheme": undefined })],
];

for (const [name, fields] of MALFORMED) {
  Deno.test(`readRequestHead() refuses ${name}`, () => {
    assertProtocolError(() => readRequestHead(fields), { scope: "stream", code: H3_MESSAGE_ERROR });
  });
}

Deno.test("readResponseHead() reads what responseFields() wrote", () => {
  const head = readResponseHead(responseFields({ status: 204, headers: [["x-a", "b"]] }));
  assert.deepEqual(head, { status: 204, headers: new Map([["x-a", "b"]]) });
});

Deno.test("readResponseHead() refuses a status that is none [RFC9114-4.3.2] [RFC9110-15]", () => {
  for (const status of ["", "20", "2000", "600", "099", "2x0", "-20"]) {
    assertProtocolError(() => readResponseHead([[":status", status]]), {
      scope: "stream",
      code: H3_MESSAGE_ERROR,
    });
  }
  assertProtocolError(() => readResponseHead([]), { scope: "stream", code: H3_MESSAGE_ERROR });
});

Deno.test("readResponseHead() refuses 101 [RFC9114-4.5]", () => {
  assertProtocolError(() => readResponseHead([[":status", "101"]]), {
    scope: "stream",
    code: H3_MESSAGE_ERROR,
  });
});

Deno.test("readResponseHead() refuses a request's pseudo-header field [RFC9114-4.3]", () => {
  assertProtocolError(() => readResponseHead([[":status", "200"], [":path", "/"]]), {
    scope: "stream",
    code: H3_MESSAGE_ERROR,
  });
});

Deno.test("checkTrailers() refuses pseudo-header fields [RFC9114-4.3]", () => {
  checkTrailers([["x-checksum", "1"]]);
  assertProtocolError(() => checkTrailers([[":status", "200"]]), { scope: "stream", code: H3_MESSAGE_ERROR });
});

Deno.test("contentLength() is a plain number or malformed", () => {
  assert.equal(contentLength(new Map()), undefined);
  assert.equal(contentLength(new Map([["content-length", "12"]])), 12);
  for (const value of ["", "-1", "1.5", "0x10", "1e3", "1, 1", "9".repeat(16)]) {
    assertProtocolError(() => contentLength(new Map([["content-length", value]])), {
      scope: "stream",
      code: H3_MESSAGE_ERROR,
    });
  }
});

Deno.test("readRequestHead() either reads or refuses any fields", () => {
  const name = fc.oneof(
    fc.constantFrom(...EXTENDED.map(([name]) => name), "host", "te", "cookie"),
    fc.string(),
  );
  fc.assert(fc.property(fc.array(fc.tuple(name, fc.string())), (fields) => {
    assertDeclaredErrors(["ERR_PROTOCOL"], () => readRequestHead(fields));
  }));
});

/** Replaces values by name; `undefined` removes the field. */
function change(fields: readonly Field[], changes: Readonly<Record<string, string | undefined>>): Field[] {
  return fields.flatMap(([name, value]): Field[] => {
    const changed = name in changes ? changes[name] : value;
    return changed === undefined ? [] : [[name, changed]];
  });
}
