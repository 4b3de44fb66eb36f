import assert from "node:assert/strict";
import * as fc from "fast-check";
import { concat } from "../../../src/base/bytes.ts";
import type { ProtocolScope } from "../../../src/base/errors.ts";
import {
  FRAME_CANCEL_PUSH,
  FRAME_DATA,
  FRAME_GOAWAY,
  FRAME_HEADERS,
  FRAME_MAX_PUSH_ID,
  FRAME_PUSH_PROMISE,
  FRAME_SETTINGS,
  FRAME_WT_STREAM,
  H3_CONNECT_ERROR,
  H3_EXCESSIVE_LOAD,
  H3_FRAME_ERROR,
  H3_FRAME_UNEXPECTED,
  H3_ID_ERROR,
  H3_MESSAGE_ERROR,
  H3_REQUEST_INCOMPLETE,
  QPACK_DECOMPRESSION_FAILED,
} from "../../../src/wire/h3/codes.ts";
import { encodeFrame } from "../../../src/wire/h3/frame.ts";
import {
  MAX_SKIPPED_BEFORE_HEAD,
  MessageDecoder,
  type MessageDecoderOptions,
} from "../../../src/wire/h3/message_decoder.ts";
import type { Field } from "../../../src/wire/qpack/static_table.ts";
import { FieldSectionTooLargeError } from "../../../src/wire/qpack/decoder.ts";
import { assertDeclaredErrors, readCorpus } from "../corpus.ts";
import { assertProtocolError, GET_FIELDS, headersFrame, mutated, pieces, wire } from "./support.ts";

const REQUEST: MessageDecoderOptions = { reads: "request", maxFieldSectionSize: 16_384 };
const RESPONSE: MessageDecoderOptions = { reads: "response", maxFieldSectionSize: 16_384, method: "GET" };

const POST = headersFrame(
  GET_FIELDS.map(([name, value]): Field => [name, name === ":method" ? "POST" : value]),
);
const GET = headersFrame(GET_FIELDS);
const CONNECT = headersFrame([[":method", "CONNECT"], [":authority", "db:5432"]]);
const OK = headersFrame([[":status", "200"]]);
const TRAILERS = headersFrame([["x-checksum", "1"]]);

Deno.test("MessageDecoder reads a request with content and trailers, however the bytes are cut", () => {
  const stream = concat([
    POST,
    data("hel"),
    encodeFrame(0x21, wire("grease")),
    data("lo"),
    data(""),
    TRAILERS,
  ]);
  for (const size of [1, 2, 5, 64, stream.length]) {
    const { kinds, content } = decode(pieces(stream, size), REQUEST);
    assert.equal(kinds[0], "request", `pieces of ${size}`);
    assert.equal(content, "hello");
  }
});

Deno.test("MessageDecoder skips interim responses [RFC9114-4.1]", () => {
  const stream = concat([headersFrame([[":status", "103"]]), OK, data("x")]);
  assert.deepEqual(decode([stream], RESPONSE), { kinds: ["response", "data"], content: "x" });
});

Deno.test("MessageDecoder ignores unknown frame types before, between and after [RFC9114-9]", () => {
  const unknown = encodeFrame(0x1f * 7 + 0x21, new Uint8Array(100));
  const stream = concat([unknown, GET, unknown, data("a"), unknown, TRAILERS, unknown]);
  assert.equal(decode([stream], REQUEST).content, "a");
});

Deno.test("MessageDecoder allows content-length beside no content where HTTP does [RFC9110-8.6]", () => {
  const answer = (status: string) => headersFrame([[":status", status], ["content-length", "5"]]);
  decode([answer("200")], { ...RESPONSE, method: "HEAD" });
  decode([answer("304")], RESPONSE);
  decode([answer("204")], RESPONSE);
  assertProtocolError(() => decode([answer("200")], RESPONSE), { scope: "stream", code: H3_MESSAGE_ERROR });
});

Deno.test("MessageDecoder takes a section of exactly its limit and refuses one byte more", () => {
  const size = GET_FIELDS.reduce((sum, [name, value]) => sum + name.length + value.length + 32, 0);
  decode([GET], { ...REQUEST, maxFieldSectionSize: size });
  assert.throws(
    () => decode([GET], { ...REQUEST, maxFieldSectionSize: size - 1 }),
    FieldSectionTooLargeError,
  );
});

Deno.test("MessageDecoder refuses a section on its declared length, before a byte of it came", () => {
  const decoder = new MessageDecoder({ ...REQUEST, maxFieldSectionSize: 1000 });
  decoder.push(wire(FRAME_HEADERS, 1001));
  assert.throws(() => decoder.next(), FieldSectionTooLargeError);
});

Deno.test("MessageDecoder refuses a section that is small on the wire and large decoded", () => {
  const fields = [...GET_FIELDS, ...new Array<Field>(500).fill(["accept", "*/*"])];
  const frame = headersFrame(fields);
  assert.ok(frame.length < 1000);
  assert.throws(
    () => decode([frame], { ...REQUEST, maxFieldSectionSize: 4096 }),
    FieldSectionTooLargeError,
  );
});

interface Hostile {
  readonly name: string;
  readonly stream: Uint8Array;
  readonly options?: MessageDecoderOptions;
  readonly code: number;
  readonly scope?: ProtocolScope;
}

const HOSTILE: readonly Hostile[] = [
  { name: "DATA before HEADERS [RFC9114-4.1]", stream: data("x"), code: H3_FRAME_UNEXPECTED },
  {
    name: "DATA after trailers [RFC9114-4.1]",
    stream: concat([POST, TRAILERS, data("x")]),
    code: H3_FRAME_UNEXPECTED,
  },
  {
    name: "HEADERS after trailers [RFC9114-4.1]",
    stream: concat([POST, TRAILERS, TRAILERS]),
    code: H3_FRAME_UNEXPECTED,
  },
  {
    name: "HEADERS on a tunnel [RFC9114-4.4]",
    stream: concat([CONNECT, data("x"), TRAILERS]),
    code: H3_FRAME_UNEXPECTED,
  },
  {
    name: "HEADERS on an answered tunnel [RFC9114-4.4]",
    stream: concat([OK, TRAILERS]),
    options: { ...RESPONSE, method: "CONNECT" },
    code: H3_FRAME_UNEXPECTED,
  },
  {
    name: "SETTINGS on a request stream [RFC9114-7.2.4]",
    stream: concat([GET, encodeFrame(FRAME_SETTINGS, new Uint8Array(0))]),
    code: H3_FRAME_UNEXPECTED,
  },
  {
    name: "CANCEL_PUSH on a request stream [RFC9114-7.2.3]",
    stream: encodeFrame(FRAME_CANCEL_PUSH, wire(0)),
    code: H3_FRAME_UNEXPECTED,
  },
  {
    name: "GOAWAY on a request stream [RFC9114-7.2.6]",
    stream: encodeFrame(FRAME_GOAWAY, wire(0)),
    code: H3_FRAME_UNEXPECTED,
  },
  {
    name: "MAX_PUSH_ID on a request stream [RFC9114-7.2.7]",
    stream: encodeFrame(FRAME_MAX_PUSH_ID, wire(0)),
    code: H3_FRAME_UNEXPECTED,
  },
  {
    name: "PUSH_PROMISE from a client [RFC9114-7.2.5]",
    stream: concat([GET, encodeFrame(FRAME_PUSH_PROMISE, wire(0))]),
    code: H3_FRAME_UNEXPECTED,
  },
  {
    name: "PUSH_PROMISE to a client that allowed none [RFC9114-7.2.5]",
    stream: encodeFrame(FRAME_PUSH_PROMISE, wire(0)),
    options: RESPONSE,
    code: H3_ID_ERROR,
  },
  {
    name: "the HTTP/2 type 0x02 [RFC9114-7.2.8]",
    stream: encodeFrame(0x02, wire(0)),
    code: H3_FRAME_UNEXPECTED,
  },
  {
    name: "the HTTP/2 type 0x06 [RFC9114-7.2.8]",
    stream: encodeFrame(0x06, wire(0)),
    code: H3_FRAME_UNEXPECTED,
  },
  {
    name: "the HTTP/2 type 0x08 between DATA [RFC9114-7.2.8]",
    stream: concat([POST, data("x"), encodeFrame(0x08, wire(0))]),
    code: H3_FRAME_UNEXPECTED,
  },
  {
    name: "the HTTP/2 type 0x09 [RFC9114-7.2.8]",
    stream: encodeFrame(0x09, wire(0)),
    code: H3_FRAME_UNEXPECTED,
  },
  {
    name: "a WebTransport signal inside a stream",
    stream: concat([GET, wire(FRAME_WT_STREAM, 0)]),
    code: H3_FRAME_ERROR,
  },
  {
    name: "endless unknown frames before a head",
    stream: wire(0x21, MAX_SKIPPED_BEFORE_HEAD),
    code: H3_EXCESSIVE_LOAD,
  },
  {
    name: "a reference to a dynamic table",
    stream: encodeFrame(FRAME_HEADERS, wire(2, 0, Uint8Array.of(0x80))),
    code: QPACK_DECOMPRESSION_FAILED,
  },
  {
    name: "an end inside a frame [RFC9114-7.1]",
    stream: concat([POST, wire(FRAME_DATA, 5, "hell")]),
    code: H3_FRAME_ERROR,
  },
  {
    name: "an end inside a frame's header [RFC9114-7.1]",
    stream: concat([POST, wire(0x4000)]),
    code: H3_FRAME_ERROR,
  },
  {
    name: "an end inside a frame of a tunnel, which breaks off that tunnel only [RFC9114-4.4]",
    stream: concat([
      headersFrame([[":method", "CONNECT"], [":authority", "a.example:1"]]),
      wire(FRAME_DATA, 5, "hell"),
    ]),
    code: H3_CONNECT_ERROR,
    scope: "stream",
  },
  {
    name: "an end before the request [RFC9114-4.1.2]",
    stream: new Uint8Array(0),
    code: H3_REQUEST_INCOMPLETE,
    scope: "stream",
  },
  {
    name: "an end before the response",
    stream: headersFrame([[":status", "100"]]),
    options: RESPONSE,
    code: H3_MESSAGE_ERROR,
    scope: "stream",
  },
  {
    name: "content shorter than content-length [RFC9114-4.1.2]",
    stream: concat([headersFrame([...GET_FIELDS, ["content-length", "5"]]), data("hell")]),
    code: H3_MESSAGE_ERROR,
    scope: "stream",
  },
  {
    name: "content longer than content-length [RFC9114-4.1.2]",
    stream: concat([headersFrame([...GET_FIELDS, ["content-length", "3"]]), data("hell")]),
    code: H3_MESSAGE_ERROR,
    scope: "stream",
  },
  {
    name: "a malformed head",
    stream: headersFrame([[":method", "GET"]]),
    code: H3_MESSAGE_ERROR,
    scope: "stream",
  },
  {
    name: "pseudo-header fields in trailers",
    stream: concat([POST, headersFrame([[":status", "200"]])]),
    code: H3_MESSAGE_ERROR,
    scope: "stream",
  },
];

for (const { name, stream, options = REQUEST, code, scope = "connection" } of HOSTILE) {
  Deno.test(`MessageDecoder refuses ${name}, whole and byte by byte`, () => {
    for (const size of [1, Math.max(1, stream.length)]) {
      assertProtocolError(() => decode(pieces(stream, size), options), { scope, code });
    }
  });
}

Deno.test("MessageDecoder takes every cut of a valid stream as incomplete, never as something else", () => {
  const stream = concat([POST, data("hello"), TRAILERS]);
  const boundaries = new Set([POST.length, POST.length + data("hello").length, stream.length]);
  for (let end = 0; end <= stream.length; end++) {
    const cut = stream.subarray(0, end);
    if (boundaries.has(end)) decode(pieces(cut, 3), REQUEST);
    else if (end === 0) {
      assertProtocolError(() => decode([], REQUEST), { scope: "stream", code: H3_REQUEST_INCOMPLETE });
    } else {assertProtocolError(() => decode(pieces(cut, 3), REQUEST), {
        scope: "connection",
        code: H3_FRAME_ERROR,
      });}
  }
});

Deno.test("MessageDecoder either reads or refuses any stream, mutations of real ones included", () => {
  const corpus = [...readCorpus("h3_message").values()];
  const frame = fc.tuple(fc.integer({ min: 0, max: 0x42 }), fc.uint8Array({ maxLength: 20 }))
    .map(([type, payload]) => encodeFrame(type, payload));
  const made = fc.array(fc.oneof(frame, fc.constantFrom(POST, OK, TRAILERS, data("x")))).map(concat);
  const stream = fc.oneof(made, mutated(corpus), fc.uint8Array({ maxLength: 40 }));
  fc.assert(
    fc.property(stream, fc.integer({ min: 1, max: 9 }), fc.boolean(), (bytes, size, server) => {
      assertDeclaredErrors(["ERR_PROTOCOL", "ERR_FIELD_SECTION_TOO_LARGE"], () => {
        decode(pieces(bytes, size), server ? REQUEST : RESPONSE);
      });
    }),
    { numRuns: 500 },
  );
});

function data(text: string): Uint8Array<ArrayBuffer> {
  return encodeFrame(FRAME_DATA, wire(text));
}

function decode(
  chunks: readonly Uint8Array<ArrayBuffer>[],
  options: MessageDecoderOptions,
): { kinds: string[]; content: string } {
  const decoder = new MessageDecoder(options);
  const kinds: string[] = [];
  let content = "";
  for (const chunk of chunks) {
    decoder.push(chunk);
    for (let event = decoder.next(); event !== undefined; event = decoder.next()) {
      kinds.push(event.kind);
      if (event.kind === "data") content += String.fromCharCode(...event.bytes);
    }
  }
  decoder.end();
  return { kinds, content };
}
