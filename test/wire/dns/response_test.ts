import assert from "node:assert/strict";
import { DNS_RCODE, DNS_TYPE } from "../../../src/wire/dns/codes.ts";
import { writeDnsName } from "../../../src/wire/dns/names.ts";
import {
  dnsRoom,
  QUESTION_NAME,
  soaData,
  srvData,
  writeDnsRefusal,
  writeDnsResponse,
} from "../../../src/wire/dns/response.ts";
import { nameBytes, opt, query, readQuery, readResponse } from "./support.ts";

const A = { owner: QUESTION_NAME, type: DNS_TYPE.A, ttl: 10, data: Uint8Array.of(10, 101, 0, 16) };

Deno.test("the question comes back byte for byte, with random case, id, RD and CD", () => {
  const asked = query("wEb.GiNnEl.internal", { id: 0xbeef, flags: 0x0130 });
  const response = readResponse(
    writeDnsResponse(readQuery(asked), { rcode: 0, authoritative: true, answers: [A] }, 512),
  );
  assert.deepEqual(response.question, asked.subarray(12));
  assert.equal(response.id, 0xbeef);
  // QR, AA, RD, RA and CD; AD is not ours to repeat.
  assert.equal(response.flags, 0x8590);
  assert.deepEqual(response.records.map(({ owner, type, ttl }) => [owner, type, ttl]), [
    ["wEb.GiNnEl.internal", 1, 10],
  ]);
});

Deno.test("[RFC6891-6.1.1] a response has an OPT record exactly where the query had one", () => {
  assert.deepEqual(readResponse(writeDnsRefusal(readQuery(query("a")), DNS_RCODE.REFUSED)).counts, [0, 0, 0]);
  const edns = readResponse(
    writeDnsRefusal(readQuery(query("a", { tail: opt({ flags: 0x8000 }) })), DNS_RCODE.REFUSED),
  );
  assert.deepEqual(edns.counts, [0, 0, 1]);
  const { type, class: size, ttl } = edns.records[0]!;
  assert.deepEqual([type, size, ttl], [41, 1_232, 0x8000]);
});

Deno.test("[RFC2181-9] what does not fit goes without records, marked, whatever the room", () => {
  const answers = Array(40).fill(A);
  const plain = readQuery(query("a.example"));
  const edns = readQuery(query("a.example", { tail: opt({ size: 4_096 }) }));
  for (const [asked, records] of [[plain, 31], [edns, 74]] as const) {
    const room = dnsRoom(asked, { viaTcp: false });
    const fitting = writeDnsResponse(asked, { rcode: 0, answers: Array(records - 1).fill(A) }, room);
    assert.ok(!readResponse(fitting).truncated && fitting.length <= room);
    const over = readResponse(writeDnsResponse(asked, { rcode: 0, answers: Array(80).fill(A) }, room));
    assert.deepEqual([over.truncated, over.counts[0]], [true, 0]);
  }
  const byTcp = writeDnsResponse(plain, { rcode: 0, answers }, dnsRoom(plain, { viaTcp: true }));
  assert.equal(readResponse(byTcp).counts[0], 40);
});

Deno.test("[RFC6891-6.2.3] less room than 512 counts as 512, more than we send as that", () => {
  const rooms = [0, 511, 512, 1_000, 1_232, 65_535].map((size) =>
    dnsRoom(readQuery(query("a", { tail: opt({ size }) })), { viaTcp: false })
  );
  assert.deepEqual(rooms, [512, 512, 512, 1_000, 1_232, 1_232]);
});

Deno.test("BADVERS without EDNS cannot be said: SERVFAIL", () => {
  const response = writeDnsRefusal(readQuery(query("a")), DNS_RCODE.BADVERS);
  assert.equal(readResponse(response).rcode, DNS_RCODE.SERVFAIL);
});

Deno.test("SRV and SOA data stand as the RFCs draw them", () => {
  assert.deepEqual(
    [...srvData(8_443, writeDnsName("web.z")!)],
    [0, 0, 0, 0, 0x20, 0xfb, ...nameBytes("web.z")],
  );
  const soa = soaData({ server: writeDnsName("z")!, mailbox: writeDnsName("h.z")!, negativeTtl: 1 });
  assert.deepEqual([...soa.subarray(0, 8)], [...nameBytes("z"), ...nameBytes("h.z")]);
  assert.deepEqual([...soa.subarray(-4)], [0, 0, 0, 1]);
  assert.equal(soa.length, 8 + 20);
});
