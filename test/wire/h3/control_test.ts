import assert from "node:assert/strict";
import * as fc from "fast-check";
import { concat } from "../../../src/base/bytes.ts";
import {
  FRAME_CANCEL_PUSH,
  FRAME_DATA,
  FRAME_GOAWAY,
  FRAME_HEADERS,
  FRAME_MAX_PUSH_ID,
  FRAME_PUSH_PROMISE,
  FRAME_SETTINGS,
  FRAME_WT_STREAM,
  H3_CLOSED_CRITICAL_STREAM,
  H3_EXCESSIVE_LOAD,
  H3_FRAME_ERROR,
  H3_FRAME_UNEXPECTED,
  H3_ID_ERROR,
  H3_MISSING_SETTINGS,
  H3_SETTINGS_ERROR,
  H3_STREAM_CREATION_ERROR,
  QPACK_DECODER_STREAM_ERROR,
  QPACK_ENCODER_STREAM_ERROR,
  STREAM_CONTROL,
  STREAM_PUSH,
  STREAM_QPACK_DECODER,
  STREAM_QPACK_ENCODER,
  STREAM_WT_UNI,
} from "../../../src/wire/h3/codes.ts";
import {
  type ControlEvent,
  ControlState,
  encodeControlPreface,
  encodeGoaway,
  type UniStreamVerdict,
} from "../../../src/wire/h3/control.ts";
import { encodeFrame } from "../../../src/wire/h3/frame.ts";
import { assertDeclaredErrors, readCorpus } from "../corpus.ts";
import { assertProtocolError, mutated, pieces, wire } from "./support.ts";

type Role = "server" | "client";

const SETTINGS = encodeFrame(FRAME_SETTINGS, new Uint8Array(0));
const CONTROL = wire(STREAM_CONTROL, SETTINGS);

Deno.test("ControlState reads the preface that we write, byte by byte", () => {
  const state = new ControlState("server");
  const preface = encodeControlPreface({
    maxFieldSectionSize: 16_384,
    datagrams: true,
    webTransportSessions: 1,
  });
  feed(state, preface, 1);
  assert.deepEqual(events(state), [{
    kind: "settings",
    settings: { maxFieldSectionSize: 16_384, connectProtocol: false, datagrams: true, webTransport: true },
  }]);
});

Deno.test("ControlState reports GOAWAY with a falling id", () => {
  const state = new ControlState("client");
  feed(state, concat([CONTROL, encodeGoaway(8), encodeGoaway(8), encodeGoaway(4)]), 1);
  assert.deepEqual(events(state).slice(1), [8, 8, 4].map((id) => ({ kind: "goaway", id })));
});

Deno.test("ControlState tolerates MAX_PUSH_ID from a client and streams that say nothing", () => {
  const state = new ControlState("server");
  const grow = [1, 1, 5].map((id) => encodeFrame(FRAME_MAX_PUSH_ID, wire(id)));
  feed(state, concat([CONTROL, ...grow]), 2);
  feed(state, wire(STREAM_QPACK_ENCODER, Uint8Array.of(0x20)), 1);
  feed(state, wire(STREAM_QPACK_DECODER, Uint8Array.of(0x44)), 1);
});

Deno.test("ControlState ignores unknown frame types on the control stream [RFC9114-9]", () => {
  const state = new ControlState("server");
  feed(
    state,
    concat([CONTROL, encodeFrame(0x21, new Uint8Array(9000)), encodeFrame(0xf0700, wire("u=1"))]),
    500,
  );
  assert.equal(events(state).length, 1);
});

Deno.test("ControlState has streams of unknown type ignored [RFC9114-6.2]", () => {
  assert.deepEqual(feed(new ControlState("server"), wire(0x21, "grease"), 1), { kind: "ignore" });
});

Deno.test("ControlState hands over WebTransport streams with the bytes behind their signal", () => {
  const stream = wire(STREAM_WT_UNI, 4, "hello");
  const verdict = new ControlState("server").openStream().push(stream);
  assert.ok(verdict.kind === "webtransport" && verdict.sessionId === 4);
  assert.equal(String.fromCharCode(...verdict.rest), "hello");
});

Deno.test("ControlState tolerates a stream that ends before its type [RFC9114-6.2]", () => {
  const state = new ControlState("server");
  state.openStream().end();
  const cut = state.openStream();
  assert.deepEqual(cut.push(Uint8Array.of(0x40)), { kind: "continue" });
  cut.end();
});

for (const [name, type] of [["control", 0], ["encoder", 2], ["decoder", 3]] as const) {
  Deno.test(`ControlState refuses the end of the ${name} stream [RFC9114-6.2.1] [RFC9204-4.2]`, () => {
    const stream = new ControlState("server").openStream();
    stream.push(type === STREAM_CONTROL ? CONTROL : wire(type));
    assertProtocolError(() => stream.end(), { scope: "connection", code: H3_CLOSED_CRITICAL_STREAM });
  });

  Deno.test(`ControlState refuses a second ${name} stream [RFC9114-6.2.1] [RFC9204-4.2]`, () => {
    const state = new ControlState("client");
    state.openStream().push(wire(type));
    assertProtocolError(() => state.openStream().push(wire(type)), {
      scope: "connection",
      code: H3_STREAM_CREATION_ERROR,
    });
  });
}

interface Hostile {
  readonly name: string;
  readonly stream: Uint8Array;
  readonly role?: Role;
  readonly code: number;
}

const HOSTILE: readonly Hostile[] = [
  {
    name: "a control stream that does not begin with SETTINGS [RFC9114-6.2.1]",
    stream: wire(STREAM_CONTROL, encodeGoaway(0)),
    code: H3_MISSING_SETTINGS,
  },
  {
    name: "an unknown frame before SETTINGS [RFC9114-6.2.1]",
    stream: wire(STREAM_CONTROL, 0x21, 0),
    code: H3_MISSING_SETTINGS,
  },
  {
    name: "a second SETTINGS [RFC9114-7.2.4]",
    stream: concat([CONTROL, SETTINGS]),
    code: H3_FRAME_UNEXPECTED,
  },
  {
    name: "SETTINGS with a setting twice [RFC9114-7.2.4]",
    stream: wire(STREAM_CONTROL, encodeFrame(FRAME_SETTINGS, wire(6, 1, 6, 1))),
    code: H3_SETTINGS_ERROR,
  },
  {
    name: "SETTINGS too long to be meant, on its declared length",
    stream: wire(STREAM_CONTROL, FRAME_SETTINGS, 1025),
    code: H3_EXCESSIVE_LOAD,
  },
  {
    name: "DATA [RFC9114-7.2.1]",
    stream: concat([CONTROL, encodeFrame(FRAME_DATA, wire(0))]),
    code: H3_FRAME_UNEXPECTED,
  },
  {
    name: "HEADERS [RFC9114-7.2.2]",
    stream: concat([CONTROL, encodeFrame(FRAME_HEADERS, wire(0))]),
    code: H3_FRAME_UNEXPECTED,
  },
  {
    name: "PUSH_PROMISE [RFC9114-7.2.5]",
    stream: concat([CONTROL, encodeFrame(FRAME_PUSH_PROMISE, wire(0))]),
    code: H3_FRAME_UNEXPECTED,
  },
  {
    name: "a WebTransport signal as a frame",
    stream: concat([CONTROL, wire(FRAME_WT_STREAM, 0)]),
    code: H3_FRAME_ERROR,
  },
  ...[0x02, 0x06, 0x08, 0x09].map((type) => ({
    name: `the HTTP/2 frame type ${type} [RFC9114-7.2.8]`,
    stream: concat([CONTROL, encodeFrame(type, wire(0))]),
    code: H3_FRAME_UNEXPECTED,
  })),
  {
    name: "GOAWAY longer than an integer [RFC9114-7.1]",
    stream: concat([CONTROL, wire(FRAME_GOAWAY, 9)]),
    code: H3_FRAME_ERROR,
  },
  {
    name: "GOAWAY with bytes behind its id [RFC9114-7.1]",
    stream: concat([CONTROL, encodeFrame(FRAME_GOAWAY, wire(0, 0))]),
    code: H3_FRAME_ERROR,
  },
  {
    name: "GOAWAY without an id [RFC9114-7.1]",
    stream: concat([CONTROL, encodeFrame(FRAME_GOAWAY, new Uint8Array(0))]),
    code: H3_FRAME_ERROR,
  },
  {
    name: "GOAWAY whose id increases [RFC9114-5.2]",
    stream: concat([CONTROL, encodeGoaway(4), encodeGoaway(8)]),
    code: H3_ID_ERROR,
  },
  {
    name: "GOAWAY to a client that names no request [RFC9114-7.2.6]",
    stream: concat([CONTROL, encodeGoaway(3)]),
    role: "client",
    code: H3_ID_ERROR,
  },
  {
    name: "MAX_PUSH_ID from a server [RFC9114-7.2.7]",
    stream: concat([CONTROL, encodeFrame(FRAME_MAX_PUSH_ID, wire(0))]),
    role: "client",
    code: H3_FRAME_UNEXPECTED,
  },
  {
    name: "MAX_PUSH_ID that decreases [RFC9114-7.2.7]",
    stream: concat([
      CONTROL,
      encodeFrame(FRAME_MAX_PUSH_ID, wire(5)),
      encodeFrame(FRAME_MAX_PUSH_ID, wire(4)),
    ]),
    code: H3_ID_ERROR,
  },
  {
    name: "CANCEL_PUSH of a push that does not exist [RFC9114-7.2.3]",
    stream: concat([CONTROL, encodeFrame(FRAME_CANCEL_PUSH, wire(0))]),
    code: H3_ID_ERROR,
  },
  {
    name: "a push stream from a client [RFC9114-6.2.2]",
    stream: wire(STREAM_PUSH, 0),
    code: H3_STREAM_CREATION_ERROR,
  },
  {
    name: "a push that was never allowed [RFC9114-4.6]",
    stream: wire(STREAM_PUSH, 0),
    role: "client",
    code: H3_ID_ERROR,
  },
  {
    name: "an insert into the QPACK table",
    stream: wire(STREAM_QPACK_ENCODER, Uint8Array.of(0x80)),
    code: QPACK_ENCODER_STREAM_ERROR,
  },
  {
    name: "an acknowledgment of what needs none",
    stream: wire(STREAM_QPACK_DECODER, Uint8Array.of(0x80)),
    code: QPACK_DECODER_STREAM_ERROR,
  },
  {
    name: "a WebTransport stream of an impossible session",
    stream: wire(STREAM_WT_UNI, 5),
    code: H3_ID_ERROR,
  },
];

for (const { name, stream, role = "server", code } of HOSTILE) {
  Deno.test(`ControlState refuses ${name}, whole and byte by byte`, () => {
    for (const size of [1, stream.length]) {
      assertProtocolError(() => feed(new ControlState(role), stream, size), { scope: "connection", code });
    }
  });
}

Deno.test("ControlState either reads or refuses any streams, mutations of real ones included", () => {
  const corpus = [...readCorpus("h3_control").values()];
  const frame = fc.tuple(fc.integer({ min: 0, max: 0x42 }), fc.uint8Array({ maxLength: 12 }))
    .map(([type, payload]) => encodeFrame(type, payload));
  const made = fc.tuple(fc.constantFrom(CONTROL, wire(0), wire(2)), fc.array(frame)).map((parts) =>
    concat(parts.flat())
  );
  const stream = fc.oneof(made, mutated(corpus), fc.uint8Array({ maxLength: 12 }));
  fc.assert(
    fc.property(fc.array(stream), fc.integer({ min: 1, max: 7 }), fc.boolean(), (streams, size, server) => {
      const state = new ControlState(server ? "server" : "client");
      assertDeclaredErrors(["ERR_PROTOCOL"], () => {
        for (const bytes of streams) feed(state, bytes, size);
      });
    }),
    { numRuns: 500 },
  );
});

/** Opens one stream and pushes all of it, as long as the verdict is to go on. */
function feed(state: ControlState, stream: Uint8Array, size: number): UniStreamVerdict {
  const handler = state.openStream();
  let verdict: UniStreamVerdict = { kind: "continue" };
  for (const piece of pieces(stream, size)) {
    verdict = handler.push(piece);
    if (verdict.kind !== "continue") break;
  }
  return verdict;
}

function events(state: ControlState): ControlEvent[] {
  const list: ControlEvent[] = [];
  for (let event = state.pollEvent(); event !== undefined; event = state.pollEvent()) list.push(event);
  return list;
}
