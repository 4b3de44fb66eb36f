import assert from "node:assert/strict";
import fc from "fast-check";
import {
  answerEnds,
  ECHO_HEADERS,
  encodeTcpReset,
  UDP_HEADERS,
  writeEchoReply,
  writeUdpHeaders,
} from "../../../src/wire/packet/answers.ts";
import { internetChecksum, transportChecksum } from "../../../src/wire/packet/checksum.ts";
import { icmp, ipv4Packet, ipv6Packet, read, tcp, udp } from "./support.ts";

const RST = 4;

Deno.test("writeUdpHeaders() answers from where the question went, checksum right, not to be fragmented [RFC768] [RFC6864-4.1]", () => {
  fc.assert(
    fc.property(
      fc.constantFrom(4 as const, 6 as const),
      fc.uint8Array({ maxLength: 99 }),
      (version, data) => {
        const asked = version === 4 ? ipv4Packet({ payload: udp({}) }) : ipv6Packet({ payload: udp({}) });
        const ends = answerEnds(located(asked));
        const answer = new Uint8Array(UDP_HEADERS[version] + data.length + 8).fill(0xee);
        answer.set(data, 4 + UDP_HEADERS[version]);
        const end = answer.length - 4;
        writeUdpHeaders(answer, 4, end, ends);
        const view = read(answer.slice(4, end));
        const question = read(asked);
        assert.deepEqual([view.src3, view.dst3, view.src0], [question.dst3, question.src3, question.dst0]);
        assert.deepEqual([view.srcPort, view.dstPort], [question.dstPort, question.srcPort]);
        assert.equal(transportChecksum(answer, 4, end, view), 0);
        assert.deepEqual([view.dontFragment, view.fragmentId], [true, 0]);
        assert.deepEqual(answer.slice(4 + UDP_HEADERS[version], end), data);
        assert.deepEqual([...answer.subarray(0, 4), ...answer.subarray(end)], Array(8).fill(0xee));
      },
    ),
  );
});

Deno.test("writeUdpHeaders() never writes a checksum of zero, which says that there is none [RFC768]", () => {
  const ends = answerEnds(located(ipv4Packet({ payload: udp({}) })));
  const answer = new Uint8Array(UDP_HEADERS[4] + 2);
  writeUdpHeaders(answer, 0, answer.length, ends);
  // With its own checksum as data, the sum of the rest is all ones.
  answer.copyWithin(28, 26, 28);
  writeUdpHeaders(answer, 0, answer.length, ends);
  assert.deepEqual([...answer.subarray(26, 28)], [0xff, 0xff]);
});

Deno.test("writeEchoReply() answers in both versions, checksum right", () => {
  const message = Uint8Array.of(1, 2, 0, 7, 9, 9, 9);
  for (const version of [4, 6] as const) {
    const asked = version === 4
      ? ipv4Packet({ protocol: 1, payload: icmp({ type: 8 }) })
      : ipv6Packet({ protocol: 58, payload: icmp({ type: 128 }) });
    const reply = new Uint8Array(ECHO_HEADERS[version] + message.length);
    reply.set(message, ECHO_HEADERS[version]);
    writeEchoReply(reply, 0, reply.length, answerEnds(located(asked)));
    const view = read(reply);
    assert.deepEqual([view.icmpType, view.srcPort], [version === 4 ? 0 : 129, 0x0102]);
    const sum = version === 4
      ? internetChecksum(reply, 20, reply.length)
      : transportChecksum(reply, 0, reply.length, view);
    assert.equal(sum, 0);
  }
});

Deno.test("encodeTcpReset() acknowledges what it refuses, and never answers a reset [RFC9293-3.10.7.1]", () => {
  for (const version of [4, 6] as const) {
    const about = (flags: number, data = new Uint8Array()) => {
      const payload = tcp({ flags, data });
      new DataView(payload.buffer).setUint32(4, 0xffff_fffe);
      new DataView(payload.buffer).setUint32(8, 77);
      const asked = version === 4
        ? ipv4Packet({ protocol: 6, payload })
        : ipv6Packet({ protocol: 6, payload });
      const reset = encodeTcpReset(located(asked));
      if (reset === undefined) return undefined;
      const view = read(reset);
      assert.equal(transportChecksum(reset, 0, reset.length, view), 0);
      assert.deepEqual([view.srcPort, view.dstPort], [443, 5_000]);
      const segment = new DataView(reset.buffer, view.headerLength);
      return [view.tcpFlags, segment.getUint32(4), segment.getUint32(8)];
    };
    assert.deepEqual(about(0x02), [RST | 16, 0, 0xffff_ffff], "SYN");
    assert.deepEqual(
      about(0x01, new Uint8Array(5)),
      [RST | 16, 0, 4],
      "FIN with data, past the end of numbers",
    );
    assert.deepEqual(about(0x10), [RST, 77, 0], "ACK");
    assert.equal(about(0x04), undefined);
    assert.equal(about(0x14), undefined);
  }
});

function located(packet: Uint8Array) {
  return { bytes: packet, start: 0, end: packet.length, view: read(packet) };
}
