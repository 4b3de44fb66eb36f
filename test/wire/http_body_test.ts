import assert from "node:assert/strict";
import fc from "fast-check";
import { utf8 } from "../../src/base/bytes.ts";
import { ProtocolError } from "../../src/base/errors.ts";
import { HttpRequestBody } from "../../src/wire/http_body.ts";
import { decodeRequestHead } from "../../src/wire/http_connect.ts";

function body(fields: string, version = "1.1"): HttpRequestBody {
  const text = `POST http://a/ HTTP/${version}\r\nHost: a\r\n${fields}\r\n`;
  return new HttpRequestBody(decodeRequestHead(utf8(text))!);
}

function assertStatus(run: () => unknown, status: number): void {
  assert.throws(run, (error) => error instanceof ProtocolError && error.wireCode === status);
}

/** Pushes `text` in pieces of `step` bytes; returns how many bytes belonged to the content. */
function feed(content: HttpRequestBody, text: string, step: number): number {
  const bytes = utf8(text);
  let taken = 0;
  for (let at = 0; at < bytes.length && !content.ended; at += step) {
    taken += content.push(bytes.subarray(at, at + step));
  }
  return taken;
}

Deno.test("a request without length has no content", () => {
  assert.equal(body("").ended, true);
  assert.equal(body("Content-Length: 0\r\n").ended, true);
});

Deno.test("sized content ends at its length", () => {
  for (const step of [1, 3, 100]) {
    const content = body("Content-Length: 5, 5\r\nContent-Length: 5\r\n");
    assert.equal(feed(content, "helloGET http://b/", step), 5);
    assert.equal(content.ended, true);
  }
});

Deno.test("chunked content ends after its trailers, in pieces of any size", () => {
  const text = '4;ext="a"\r\n\r\n\r\n\r\nA  \r\n0123456789\r\n000\r\nTrailer: x\r\n\r\n';
  for (let step = 1; step <= text.length + 5; step++) {
    const content = body("Transfer-Encoding: Chunked\r\n");
    assert.equal(feed(content, text + "GET http://b/", step), text.length);
    assert.equal(content.ended, true);
  }
  for (let end = 0; end < text.length; end++) {
    const content = body("Transfer-Encoding: chunked\r\n");
    assert.equal(feed(content, text.slice(0, end), 7), end);
    assert.equal(content.ended, false);
  }
});

Deno.test("a head that leaves the end of its content open is refused [RFC9112-6.1] [RFC9112-6.3]", () => {
  for (const length of ["-1", "+1", "1 1", "1,2", "", "0x10", "1.0", "9".repeat(16)]) {
    assertStatus(() => body(`Content-Length: ${length}\r\n`), 400);
  }
  assertStatus(() => body("Content-Length: 1\r\nContent-Length: 2\r\n"), 400);
  assertStatus(() => body("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"), 400);
  assertStatus(() => body("Transfer-Encoding: chunked\r\n", "1.0"), 400);
  for (const coding of ["gzip, chunked", "identity", "chunked, chunked", "xchunked"]) {
    assertStatus(() => body(`Transfer-Encoding: ${coding}\r\n`), 501);
  }
});

Deno.test("malformed chunks are refused [RFC9112-7.1]", () => {
  const faults = [
    "\r\n",
    "x\r\n",
    "1\n",
    " 1\r\n",
    "-1\r\n",
    "1\r\nab",
    "1\r\na\rb",
    "0\r\n\r\r",
    "0\r\na\n",
    "f".repeat(14) + "\r\n",
  ];
  for (const text of faults) {
    assertStatus(() => feed(body("Transfer-Encoding: chunked\r\n"), text, 100), 400);
  }
  const endless = body("Transfer-Encoding: chunked\r\n");
  assertStatus(() => feed(endless, "1;" + "a".repeat(5_000), 64), 400);
  assertStatus(
    () => feed(body("Transfer-Encoding: chunked\r\n"), "0\r\n" + "a: b\r\n".repeat(4_000), 64),
    431,
  );
});

Deno.test("any bytes are taken, or refused with an HTTP status", () => {
  fc.assert(
    fc.property(
      fc.array(fc.constantFrom("1", "a", ";", "\r\n", "\r", "\n", "0", "zz"), { maxLength: 40 }),
      (parts) => {
        const bytes = utf8(parts.join(""));
        const content = body("Transfer-Encoding: chunked\r\n");
        try {
          const taken = content.push(bytes);
          assert.ok(content.ended ? taken <= bytes.length : taken === bytes.length);
        } catch (error) {
          assert.ok(error instanceof ProtocolError && error.wireCode >= 400);
        }
      },
    ),
  );
});
