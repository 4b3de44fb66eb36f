import assert from "node:assert/strict";
import fc from "fast-check";
import { concat } from "../../../src/base/bytes.ts";
import { DnsMessageReader, frameDnsMessage } from "../../../src/wire/dns/tcp_framing.ts";

Deno.test("messages come out as they went in, however the stream is cut", () => {
  const messages = fc.array(fc.uint8Array({ maxLength: 400 }), { maxLength: 6 });
  fc.assert(
    fc.property(messages, fc.array(fc.integer({ min: 1, max: 90 }), { minLength: 1 }), (list, cuts) => {
      const stream = concat(list.map(frameDnsMessage));
      const reader = new DnsMessageReader();
      const read: Uint8Array[] = [];
      for (let at = 0, i = 0; at < stream.length; i++) {
        const end = at + cuts[i % cuts.length]!;
        reader.push(stream.subarray(at, end));
        at = end;
        for (let message = reader.next(); message !== undefined; message = reader.next()) read.push(message);
      }
      assert.deepEqual(read, list);
    }),
  );
});

Deno.test("a message stays what it was when more comes", () => {
  const reader = new DnsMessageReader();
  reader.push(frameDnsMessage(Uint8Array.of(1, 2)));
  const first = reader.next();
  reader.push(frameDnsMessage(Uint8Array.of(9, 9)));
  assert.deepEqual(first, Uint8Array.of(1, 2));
});

Deno.test("what the length cannot say is not framed", () => {
  assert.equal(frameDnsMessage(new Uint8Array(65_535)).length, 65_537);
  assert.throws(() => frameDnsMessage(new Uint8Array(65_536)), RangeError);
});
