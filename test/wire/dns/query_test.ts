import assert from "node:assert/strict";
import fc from "fast-check";
import { concat } from "../../../src/base/bytes.ts";
import { DNS_RCODE } from "../../../src/wire/dns/codes.ts";
import { readDnsQuery } from "../../../src/wire/dns/query.ts";
import { writeDnsRefusal } from "../../../src/wire/dns/response.ts";
import { nameBytes, opt, query, readQuery, readResponse, words } from "./support.ts";

Deno.test("responses and less than a header are never answered", () => {
  assert.equal(readDnsQuery(query("a.example", { flags: 0x8180 })), undefined);
  for (let length = 0; length < 12; length++) {
    assert.equal(readDnsQuery(query("a.example").subarray(0, length)), undefined);
  }
});

Deno.test("[RFC9619-4] any other number of questions than one is malformed", () => {
  for (const count of [0, 2, 65_535]) {
    const { fault, questionEnd } = readQuery(query("a.example", { counts: [count, 0, 0, 0] }));
    assert.deepEqual([fault, questionEnd], [DNS_RCODE.FORMERR, 12]);
  }
});

Deno.test("a query cut short anywhere is malformed, and so is one with bytes to spare", () => {
  const whole = query("web.ginnel.internal", { tail: opt() });
  for (let length = 12; length < whole.length; length++) {
    assert.equal(readQuery(whole.slice(0, length)).fault, DNS_RCODE.FORMERR, `${length}`);
  }
  assert.equal(readQuery(whole).fault, undefined);
  assert.equal(readQuery(concat([whole, Uint8Array.of(0)])).fault, DNS_RCODE.FORMERR);
  assert.equal(
    readQuery(concat([query("a.example"), Uint8Array.of(0)])).fault,
    DNS_RCODE.FORMERR,
  );
});

Deno.test("names that point elsewhere, are too long or have labels of reserved kinds are malformed", () => {
  const header = words(1, 0x0100, 1, 0, 0, 0);
  const rest = words(1, 1);
  const names = {
    "pointer to itself": Uint8Array.of(0xc0, 12),
    "pointer behind a label": Uint8Array.of(1, 0x61, 0xc0, 12),
    "label of 64 bytes": concat([Uint8Array.of(64), new Uint8Array(64).fill(0x61), Uint8Array.of(0)]),
    "reserved kind": Uint8Array.of(0x80, 0x61, 0),
    "256 bytes": nameBytes(Array(127).fill("a").concat("bb").join(".").slice(0, 255)),
  };
  for (const [kind, name] of Object.entries(names)) {
    assert.equal(readQuery(concat([header, name, rest])).fault, DNS_RCODE.FORMERR, kind);
  }
  const longest = Array(127).fill("a").join(".");
  assert.equal(readQuery(query(longest)).name, longest);
});

Deno.test("a dot inside of a label is not the end of one, nor does anything else pass for a host name", () => {
  const name = concat([Uint8Array.of(3), Uint8Array.of(0x77, 0x2e, 0x78), nameBytes("ginnel.internal")]);
  const bytes = concat([words(1, 0x0100, 1, 0, 0, 0), name, words(1, 1)]);
  assert.equal(readQuery(bytes).name, "w\\046x.ginnel.internal");
  assert.equal(readQuery(query("a b.\u00e9")).name, "a\\032b.\\195\\169");
  assert.equal(readQuery(query("a\\046b")).name, "a\\092046b");
});

Deno.test("names are compared in lower case", () => {
  assert.equal(readQuery(query("WeB.gInNeL.InTeRnAl")).name, "web.ginnel.internal");
  assert.equal(readQuery(query("")).name, "");
});

Deno.test("[RFC6891-6.1.2] the asker's room and DO are read; an OPT record that is not one is malformed", () => {
  assert.deepEqual(readQuery(query("a", { tail: opt({ size: 4_096, flags: 0x8000 }) })).edns, {
    size: 4_096,
    dnssecOk: true,
  });
  assert.equal(readQuery(query("a")).edns, undefined);
  const withCookie = opt({ data: concat([words(10, 8), new Uint8Array(8)]) });
  assert.equal(readQuery(query("a", { tail: withCookie })).fault, undefined);
  const tails = [
    concat([Uint8Array.of(1, 0x61), opt()]),
    opt({ data: words(10, 9) }),
    opt({ data: Uint8Array.of(1) }),
    concat([Uint8Array.of(0), words(16, 1, 0, 0, 0)]),
  ];
  for (const tail of tails) {
    const { fault } = readQuery(query("a", { tail, counts: [1, 0, 0, 1] }));
    assert.equal(fault, DNS_RCODE.FORMERR);
  }
  const two = concat([opt(), opt()]);
  assert.equal(readQuery(query("a", { tail: two, counts: [1, 0, 0, 2] })).fault, DNS_RCODE.FORMERR);
});

Deno.test("[RFC6891-6.1.3] another version of EDNS is BADVERS, said in an OPT record", () => {
  const read = readQuery(query("a", { tail: opt({ version: 1 }) }));
  assert.equal(read.fault, DNS_RCODE.BADVERS);
  const { rcode, records } = readResponse(writeDnsRefusal(read, DNS_RCODE.BADVERS));
  assert.deepEqual([rcode, records[0]!.type, records[0]!.ttl >>> 24], [0, 41, 1]);
});

Deno.test("other opcodes, classes and zone transfers are refused", () => {
  assert.equal(readQuery(query("a", { flags: 0x2800 })).fault, DNS_RCODE.NOTIMP);
  for (const class_ of [0, 3, 4, 254, 255]) {
    assert.equal(readQuery(query("version.bind", { type: 16, class: class_ })).fault, DNS_RCODE.REFUSED);
  }
  for (const type of [41, 249, 250, 251, 252, 253, 254]) {
    assert.equal(readQuery(query("ginnel.internal", { type })).fault, DNS_RCODE.REFUSED);
  }
  assert.equal(readQuery(query("a", { type: 255 })).fault, undefined);
});

Deno.test("records in the sections of a response are malformed", () => {
  for (const counts of [[1, 1, 0, 0], [1, 0, 1, 0]]) {
    assert.equal(readQuery(query("a", { counts })).fault, DNS_RCODE.FORMERR);
  }
});

Deno.test("fuzz: whatever the bytes, reading ends, and what is refused gets a well-formed response", () => {
  const mutated = fc.tuple(
    fc.constantFrom(query("web.ginnel.internal"), query("a.b", { tail: opt() })),
    fc.array(fc.tuple(fc.nat(60), fc.nat(255)), { maxLength: 6 }),
    fc.nat(60),
  ).map(([bytes, changes, cut]) => {
    const copy = bytes.slice(0, bytes.length - (cut > 40 ? cut - 40 : 0));
    for (const [at, value] of changes) if (at < copy.length) copy[at] = value;
    return copy;
  });
  fc.assert(
    fc.property(fc.oneof(mutated, fc.uint8Array({ maxLength: 300 })), (bytes) => {
      const read = readDnsQuery(bytes);
      if (read === undefined) return;
      const { id, flags, rcode } = readResponse(writeDnsRefusal(read, read.fault ?? DNS_RCODE.SERVFAIL));
      assert.equal(id, (bytes[0]! << 8) | bytes[1]!);
      assert.ok((flags & 0x8000) !== 0);
      assert.ok(rcode <= 5);
      assert.match(read.name, /^(?:[a-z0-9_.-]|\\\d{3})*$/);
    }),
    { numRuns: 3_000 },
  );
});
