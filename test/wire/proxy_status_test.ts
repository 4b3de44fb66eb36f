import assert from "node:assert/strict";
import fc from "fast-check";
import { encodeProxyStatus, parseProxyStatus, type ProxyStatus } from "../../src/wire/proxy_status.ts";
import { readCorpus, readVectors } from "./corpus.ts";

Deno.test("parseProxyStatus() reads the RFC's examples [RFC9209-2]", () => {
  for (
    const { field, ...status } of readVectors<ProxyStatus & { field: string }>("rfc9209/proxy_status.json")
      .vectors
  ) {
    assert.deepEqual(parseProxyStatus(field), status, field);
  }
});

Deno.test("encodeProxyStatus() writes a token, or a string where it must", () => {
  assert.equal(encodeProxyStatus({ proxy: "relay-1" }), "relay-1");
  assert.equal(encodeProxyStatus({ proxy: "1 relay" }), '"1 relay"');
  assert.equal(
    encodeProxyStatus({ proxy: "relay-1", error: "connection_refused", details: 'say "no" \\ é\n' }),
    'relay-1; error=connection_refused; details="say \\"no\\" \\\\ ??"',
  );
  assert.equal(
    encodeProxyStatus({ proxy: "r", details: "x".repeat(257) }),
    `r; details="${"x".repeat(256)}"`,
  );
  assert.throws(() => encodeProxyStatus({ proxy: "r", error: "not a token" }), RangeError);
  assert.throws(() => encodeProxyStatus({ proxy: "r", error: "" }), RangeError);
});

Deno.test("Proxy-Status of any text survives the round trip as far as it can be said", () => {
  const ascii = fc.string({ unit: "binary-ascii", maxLength: 60 });
  const token = fc.stringMatching(/^[A-Za-z*][A-Za-z0-9!#$%&'*+.^_`|~:/-]{0,30}$/);
  fc.assert(fc.property(ascii, token, ascii, (proxy, error, details) => {
    const visible = (text: string) => text.replace(/[^\x20-\x7e]/g, "?");
    assert.deepEqual(parseProxyStatus(encodeProxyStatus({ proxy, error, details })), {
      proxy: visible(proxy),
      error,
      details: visible(details),
    });
  }));
});

Deno.test("encodeProxyStatus() cannot be made to write another field or parameter", () => {
  fc.assert(fc.property(fc.string(), fc.string(), (proxy, details) => {
    const field = encodeProxyStatus({ proxy, error: "e", details });
    assert.match(field, /^[\x20-\x7e]*$/);
    assert.equal(parseProxyStatus(field)?.error, "e");
  }));
});

Deno.test("parseProxyStatus() returns the member closest to the service that has an error", () => {
  assert.deepEqual(parseProxyStatus("a, b; error=x, c; error=y"), { proxy: "b", error: "x" });
  assert.deepEqual(parseProxyStatus("a, b"), { proxy: "a" });
});

Deno.test("parseProxyStatus() reads past every kind of parameter, the last of a key counts [RFC9651-3.1.2]", () => {
  const parameters = [
    "a",
    "a=1",
    "a=-1.5",
    "a=?0",
    "a=:aGVsbG8=:",
    "a=@1659578233",
    'a=%"caf%c3%a9"',
    'a="\\"\\\\"',
    "a=*tok/en:x",
    "*a_.-*=1",
  ];
  for (const parameter of parameters) {
    assert.deepEqual(parseProxyStatus(`p;${parameter};  error=e`), { proxy: "p", error: "e" }, parameter);
  }
  assert.deepEqual(parseProxyStatus("p;error=a;error=b"), { proxy: "p", error: "b" });
  assert.deepEqual(parseProxyStatus("  p \t,\tq;error=b  "), { proxy: "q", error: "b" });
});

Deno.test("parseProxyStatus() ignores a malformed field as a whole [RFC9651-4.2]", () => {
  for (
    const field of [
      "",
      " ",
      ",",
      "p,",
      "p,,q",
      "p q",
      "p;",
      "p; =1",
      "p;A=1",
      "p;a=",
      "p;a=1.",
      "p;a=1.2345",
      "p ;a=1",
    ]
      .concat([
        '"p',
        'p;a="x',
        'p;a="\\x"',
        "p;a=?2",
        "p;a=:x",
        'p;a=%"%C3"',
        "p;a=1234567890123456",
        "1p",
        "(p)",
        "é",
      ])
      .concat(["p; error=x\n", "x".repeat(4097)])
  ) assert.equal(parseProxyStatus(field), undefined, field);
});

Deno.test("parseProxyStatus() never throws on any text", () => {
  const corpus = [...readCorpus("proxy_status").values()].map((bytes) => String.fromCharCode(...bytes));
  for (const field of corpus) parseProxyStatus(field);
  const piece = fc.constantFrom(
    ";",
    "=",
    ",",
    '"',
    "\\",
    " ",
    "p",
    "error",
    "1",
    ".",
    "?1",
    ":",
    "%",
    "@",
    ...corpus,
  );
  fc.assert(fc.property(fc.array(piece, { maxLength: 30 }), (pieces) => {
    const status = parseProxyStatus(pieces.join(""));
    if (status?.error !== undefined) assert.match(status.error, /^[\x20-\x7e]*$/);
  }));
});
