/**
 * Peers that break HTTP/3, over real QUIC: the connection closes with the RFC's code, the listener goes on.
 */

import assert from "node:assert/strict";
import { concat } from "../../../src/base/bytes.ts";
import { SILENT_LOGGER } from "../../../src/base/log.ts";
import { QuicDialer } from "../../../src/io/quic/dialer.ts";
import {
  FRAME_DATA,
  FRAME_GOAWAY,
  FRAME_SETTINGS,
  H3_CLOSED_CRITICAL_STREAM,
  H3_DATAGRAM_ERROR,
  H3_EXCESSIVE_LOAD,
  H3_FRAME_ERROR,
  H3_FRAME_UNEXPECTED,
  H3_ID_ERROR,
  H3_MISSING_SETTINGS,
  H3_SETTINGS_ERROR,
  H3_STREAM_CREATION_ERROR,
  QPACK_DECOMPRESSION_FAILED,
  QPACK_ENCODER_STREAM_ERROR,
} from "../../../src/wire/h3/codes.ts";
import { encodeControlPreface } from "../../../src/wire/h3/control.ts";
import { encodeFrame } from "../../../src/wire/h3/frame.ts";
import { encodeWebTransportSignal } from "../../../src/wire/h3/stream_signal.ts";
import { GET_FIELDS, headersFrame, wire } from "../../wire/h3/support.ts";
import { echoRequest, NETWORK, SERVER_NAME, TestServer } from "../support.ts";
import { connectRaw, writeBidi, writeUni } from "./raw_peer.ts";

const PREFACE = encodeControlPreface({ maxFieldSectionSize: 16_384 });

interface Hostile {
  readonly name: string;
  readonly attack: (conn: Deno.QuicConn) => Promise<unknown>;
  readonly code: number;
}

const HOSTILE_CLIENTS: readonly Hostile[] = [
  {
    name: "opens two control streams [RFC9114-6.2.1]",
    attack: async (conn) => {
      await writeUni(conn, PREFACE);
      await writeUni(conn, PREFACE);
    },
    code: H3_STREAM_CREATION_ERROR,
  },
  {
    name: "ends its control stream [RFC9114-6.2.1]",
    attack: (conn) => writeUni(conn, PREFACE, { end: true }),
    code: H3_CLOSED_CRITICAL_STREAM,
  },
  {
    name: "ends its QPACK stream [RFC9204-4.2]",
    attack: (conn) => writeUni(conn, Uint8Array.of(2), { end: true }),
    code: H3_CLOSED_CRITICAL_STREAM,
  },
  {
    name: "begins without SETTINGS [RFC9114-6.2.1]",
    attack: (conn) => writeUni(conn, wire(0, encodeFrame(FRAME_GOAWAY, wire(0)))),
    code: H3_MISSING_SETTINGS,
  },
  {
    name: "repeats a setting [RFC9114-7.2.4]",
    attack: (conn) => writeUni(conn, wire(0, encodeFrame(FRAME_SETTINGS, wire(6, 1, 6, 1)))),
    code: H3_SETTINGS_ERROR,
  },
  {
    name: "declares endless SETTINGS",
    attack: (conn) => writeUni(conn, wire(0, FRAME_SETTINGS, 2 ** 40)),
    code: H3_EXCESSIVE_LOAD,
  },
  {
    name: "sends DATA on its control stream [RFC9114-7.2.1]",
    attack: (conn) => writeUni(conn, concat([PREFACE, encodeFrame(FRAME_DATA, wire(0))])),
    code: H3_FRAME_UNEXPECTED,
  },
  {
    name: "raises its GOAWAY [RFC9114-5.2]",
    attack: (conn) =>
      writeUni(
        conn,
        concat([PREFACE, encodeFrame(FRAME_GOAWAY, wire(0)), encodeFrame(FRAME_GOAWAY, wire(4))]),
      ),
    code: H3_ID_ERROR,
  },
  {
    name: "pushes [RFC9114-6.2.2]",
    attack: (conn) => writeUni(conn, wire(1, 0)),
    code: H3_STREAM_CREATION_ERROR,
  },
  {
    name: "inserts into a table it was not given",
    attack: (conn) => writeUni(conn, wire(2, Uint8Array.of(0xc0, 0x00))),
    code: QPACK_ENCODER_STREAM_ERROR,
  },
  {
    name: "sends DATA before HEADERS [RFC9114-4.1]",
    attack: (conn) => writeBidi(conn, encodeFrame(FRAME_DATA, wire("x"))),
    code: H3_FRAME_UNEXPECTED,
  },
  {
    name: "sends a frame of HTTP/2 [RFC9114-7.2.8]",
    attack: (conn) => writeBidi(conn, concat([headersFrame(GET_FIELDS), encodeFrame(0x08, wire(1))])),
    code: H3_FRAME_UNEXPECTED,
  },
  {
    name: "ends inside a frame [RFC9114-7.1]",
    attack: (conn) =>
      writeBidi(conn, concat([headersFrame(GET_FIELDS), wire(FRAME_DATA, 9, "cut")]), { end: true }),
    code: H3_FRAME_ERROR,
  },
  {
    name: "ends inside a head [RFC9114-7.1]",
    attack: (conn) => writeBidi(conn, headersFrame(GET_FIELDS).subarray(0, 7), { end: true }),
    code: H3_FRAME_ERROR,
  },
  {
    name: "refers to a dynamic table",
    attack: (conn) => writeBidi(conn, wire(1, 3, Uint8Array.of(2, 0, 0x80))),
    code: QPACK_DECOMPRESSION_FAILED,
  },
  {
    name: "floods a stream with unknown frames before a head",
    attack: (conn) => writeBidi(conn, wire(0x21, 2 ** 30)),
    code: H3_EXCESSIVE_LOAD,
  },
  {
    name: "names an impossible session",
    attack: (conn) => writeUni(conn, wire(0x54, 3)),
    code: H3_ID_ERROR,
  },
  {
    name: "sends an empty datagram [RFC9297-2.1]",
    attack: (conn) => conn.sendDatagram(new Uint8Array(0)),
    code: H3_DATAGRAM_ERROR,
  },
];

for (const { name, attack, code } of HOSTILE_CLIENTS) {
  Deno.test(`a client that ${name} is closed with the RFC's code, and others are served`, async () => {
    await using server = await TestServer.quic(tolerantEcho);
    const bystander = await server.dial();
    const conn = await connectRaw(server.listener.port);
    await attack(conn);
    assert.equal((await conn.closed).closeCode, code);
    await bystander.request({ method: "GET", authority: "a", path: "/" }, { end: true });
  });
}

const HOSTILE_SERVERS: readonly Hostile[] = [
  {
    name: "opens a request stream [RFC9114-6.1]",
    attack: (conn) => writeBidi(conn, headersFrame(GET_FIELDS)),
    code: H3_STREAM_CREATION_ERROR,
  },
  {
    name: "pushes what was never allowed [RFC9114-4.6]",
    attack: (conn) => writeUni(conn, wire(1, 0)),
    code: H3_ID_ERROR,
  },
  {
    name: "says GOAWAY to no request [RFC9114-7.2.6]",
    attack: (conn) => writeUni(conn, concat([PREFACE, encodeFrame(FRAME_GOAWAY, wire(1))])),
    code: H3_ID_ERROR,
  },
  {
    name: "sends MAX_PUSH_ID [RFC9114-7.2.7]",
    attack: (conn) => writeUni(conn, concat([PREFACE, encodeFrame(0x0d, wire(1))])),
    code: H3_FRAME_UNEXPECTED,
  },
];

for (const { name, attack, code } of HOSTILE_SERVERS) {
  Deno.test(`a server that ${name} is closed with the RFC's code`, async () => {
    const server = new Deno.QuicEndpoint({ hostname: "127.0.0.1", port: 0 });
    const listener = server.listen({ ...NETWORK.credentials, alpnProtocols: ["h3"] });
    await using dialer = new QuicDialer({ logger: SILENT_LOGGER });
    const accepted = listener.accept();
    await dialer.dial({
      address: { hostname: "127.0.0.1", port: server.addr.port },
      serverName: SERVER_NAME,
      roots: [NETWORK.root],
      signal: AbortSignal.timeout(5_000),
    });
    const conn = await accepted;
    await attack(conn);
    assert.equal((await conn.closed).closeCode, code);
    server.close();
  });
}

Deno.test("a server that answers with garbage fails the request, whatever it is", async () => {
  const server = new Deno.QuicEndpoint({ hostname: "127.0.0.1", port: 0 });
  const listener = server.listen({ ...NETWORK.credentials, alpnProtocols: ["h3"] });
  await using dialer = new QuicDialer({ logger: SILENT_LOGGER });
  const accepted = listener.accept();
  const client = await dialer.dial({
    address: { hostname: "127.0.0.1", port: server.addr.port },
    serverName: SERVER_NAME,
    roots: [NETWORK.root],
    signal: AbortSignal.timeout(5_000),
  });
  const conn = await accepted;
  const answers = [headersFrame([[":status", "99"]]), headersFrame([["x-a", "b"]]), new Uint8Array(0)];
  const served = (async () => {
    for await (const { writable } of conn.incomingBidirectionalStreams) {
      const answer = answers.shift();
      const writer = writable.getWriter();
      await writer.write(answer ?? wire(0x21));
      await writer.close();
    }
  })();
  for (let round = 0; round < 4; round++) {
    await assert.rejects(client.request({ method: "GET", authority: "a", path: "/" }, { end: true }), {
      code: "ERR_CHANNEL_RESET",
    });
  }
  await served;
  server.close();
});

/** An echo whose peer may vanish in the middle. */
async function tolerantEcho(...[request]: Parameters<typeof echoRequest>): Promise<void> {
  await echoRequest(request).catch((error) => assert.equal(Object(error).code, "ERR_CHANNEL_RESET"));
}

Deno.test("encodeWebTransportSignal() of a session that never comes leaves the connection alone", async () => {
  await using server = await TestServer.quic(tolerantEcho);
  const conn = await connectRaw(server.listener.port);
  for (let i = 0; i < 6; i++) {
    await writeUni(conn, wire(encodeWebTransportSignal("unidirectional", 400), "x"));
  }
  const { answer } = await writeBidi(conn, headersFrame(GET_FIELDS), { end: true });
  assert.ok((await answer).length > 0);
  conn.close();
  await conn.closed;
});
