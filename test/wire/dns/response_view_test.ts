import assert from "node:assert/strict";
import { readDnsOutcome, withDnsId } from "../../../src/wire/dns/response_view.ts";
import { query, readQuery } from "./support.ts";

const ASKED = readQuery(query("wEb.example"));

Deno.test("[RFC5452-9.1] a response counts only with the id and the question that were sent", () => {
  const good = query("wEb.example", { id: 7, flags: 0x8180 });
  assert.deepEqual(readDnsOutcome(good, ASKED, 7), { rcode: 0, truncated: false });
  assert.ok(readDnsOutcome(query("WEB.EXAMPLE", { id: 7, flags: 0x8180 }), ASKED, 7), "case may be folded");
  const forged = {
    id: query("wEb.example", { id: 8, flags: 0x8180 }),
    name: query("wEc.example", { id: 7, flags: 0x8180 }),
    type: query("wEb.example", { id: 7, flags: 0x8180, type: 28 }),
    class: query("wEb.example", { id: 7, flags: 0x8180, class: 3 }),
    query: query("wEb.example", { id: 7 }),
    opcode: query("wEb.example", { id: 7, flags: 0xa980 }),
    "no question": query("wEb.example", { id: 7, flags: 0x8180, counts: [0, 1, 0, 0] }),
    cut: good.subarray(0, good.length - 1),
    empty: new Uint8Array(),
  };
  for (const [what, bytes] of Object.entries(forged)) {
    assert.equal(readDnsOutcome(bytes, ASKED, 7), undefined, what);
  }
});

Deno.test("code and truncation are read", () => {
  const response = query("wEb.example", { id: 7, flags: 0x8383 });
  assert.deepEqual(readDnsOutcome(response, ASKED, 7), { rcode: 3, truncated: true });
});

Deno.test("another id changes nothing else, nor the message it was made of", () => {
  const bytes = query("a", { id: 0x0102 });
  const copy = withDnsId(bytes, 0xfffe);
  assert.deepEqual([...copy.subarray(0, 2), ...bytes.subarray(0, 2)], [0xff, 0xfe, 1, 2]);
  assert.deepEqual(copy.subarray(2), bytes.subarray(2));
});
