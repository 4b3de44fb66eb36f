import assert from "node:assert/strict";
import fc from "fast-check";
import { concat, fromHex, utf8 } from "../../../src/base/bytes.ts";
import { formatIp, ipToBytes, parseIp } from "../../../src/base/ip.ts";
import { readDnsAnswer } from "../../../src/wire/packet/dns.ts";
import { readCorpus } from "../corpus.ts";

const A = 1;
const CNAME = 5;
const AAAA = 28;

/** A pointer to the question. */
const TO_QUESTION = Uint8Array.of(0xc0, 12);

Deno.test("readDnsAnswer() refuses an answer cut at any byte of question and answers", () => {
  const message = response({
    question: "www.example.com",
    answers: [cname(TO_QUESTION, name("cdn.example.net")), a(name("cdn.example.net"), "192.0.2.1")],
  });
  assert.equal(read(message)?.addresses.length, 1);
  for (let cut = 0; cut < message.length; cut++) {
    assert.equal(readDnsAnswer(message, 0, cut), undefined, `cut at ${cut}`);
  }
});

Deno.test("readDnsAnswer() ignores what lies behind the answers", () => {
  const message = response({ answers: [a(TO_QUESTION, "192.0.2.1")] });
  assert.equal(texts(concat([message, new Uint8Array(30).fill(0xff)])), "example.com 192.0.2.1/60");
});

Deno.test("readDnsAnswer() reads nothing but answers to one question, without an error", () => {
  for (
    const [flags, fine] of [
      [0x8180, true],
      [0x8580, true],
      [0x8380, true],
      [0x81b0, true],
      [0x8000, true],
      [0x0100, false],
      [0x8183, false],
      [0x8182, false],
      [0x8185, false],
      [0x818f, false],
      [0xa180, false],
      [0x8980, false],
    ] as const
  ) {
    const message = response({ answers: [a(TO_QUESTION, "192.0.2.1")] });
    new DataView(message.buffer).setUint16(2, flags);
    assert.equal(read(message) !== undefined, fine, flags.toString(16));
  }
  for (const questions of [0, 2, 3, 256]) {
    const message = response({ answers: [a(TO_QUESTION, "192.0.2.1")] });
    new DataView(message.buffer).setUint16(4, questions);
    assert.equal(read(message), undefined, `${questions} questions`);
  }
  assert.equal(read(response({ questionClass: 3, answers: [a(TO_QUESTION, "192.0.2.1")] })), undefined);
  assert.equal(read(response({ questionClass: 255, answers: [a(TO_QUESTION, "192.0.2.1")] })), undefined);
});

Deno.test("readDnsAnswer() gives only addresses of the name that was asked for", () => {
  const answers = [
    a(TO_QUESTION, "192.0.2.1"),
    a(name("bank.example"), "192.0.2.66"),
    a(name("www.example.com"), "192.0.2.67"),
    a(name("com"), "192.0.2.68"),
    a(name("xexample.com"), "192.0.2.69"),
    a(name("EXAMPLE.Com"), "192.0.2.2"),
    aaaa(TO_QUESTION, "2001:db8::1"),
  ];
  assert.equal(texts(response({ answers })), "example.com 192.0.2.1/60 192.0.2.2/60 2001:db8::1/60");
});

Deno.test("readDnsAnswer() follows aliases from the question, in any order, and lets them shorten the time", () => {
  const chain = [
    cname(name("a.example.com"), name("b.example.net"), 30),
    cname(name("b.example.net"), name("c.example.org"), 300),
    a(name("c.example.org"), "192.0.2.1", 600),
    a(name("c.example.org"), "192.0.2.2", 10),
  ];
  for (const answers of [chain, chain.toReversed()]) {
    const { question, addresses } = read(response({ question: "a.example.com", answers }))!;
    assert.equal(question, "a.example.com");
    assert.deepEqual(
      new Map(addresses.map(({ address, ttl }) => [formatIp(address), ttl])),
      new Map([["192.0.2.1", 30], ["192.0.2.2", 10]]),
    );
  }
});

Deno.test("readDnsAnswer() takes no address from beside the chain, and follows the first of two aliases", () => {
  const answers = [
    cname(TO_QUESTION, name("b.example.net")),
    cname(TO_QUESTION, name("evil.example")),
    cname(name("other.example"), name("evil.example")),
    a(name("b.example.net"), "192.0.2.1"),
    a(name("evil.example"), "192.0.2.66"),
    a(TO_QUESTION, "192.0.2.67"),
  ];
  assert.equal(texts(response({ answers })), "example.com 192.0.2.1/60");
});

Deno.test("readDnsAnswer() finds nothing at the end of aliases in a circle, or of too many", () => {
  const circle = [
    cname(name("example.com"), name("b.example")),
    cname(name("b.example"), name("example.com")),
    a(name("example.com"), "192.0.2.1"),
    a(name("b.example"), "192.0.2.2"),
  ];
  assert.equal(texts(response({ answers: circle })), "example.com");
  assert.equal(
    texts(response({ answers: [cname(TO_QUESTION, TO_QUESTION), a(TO_QUESTION, "192.0.2.1")] })),
    "example.com",
  );
  for (const [length, found] of [[16, true], [17, false]] as const) {
    const step = (i: number) => name(i === 0 ? "example.com" : `n${i}.example`);
    const answers = Array.from({ length }, (_, i) => cname(step(i), step(i + 1)));
    answers.push(a(step(length), "192.0.2.1"));
    assert.equal(read(response({ answers }))?.addresses.length, found ? 1 : 0);
  }
});

Deno.test("readDnsAnswer() does not take a dot, a blank or a high byte inside of a label for text", () => {
  for (const label of ["www.example", "a b", "a\0", "é", "*", "a@b", "a/b", "a\\"]) {
    const odd = concat([Uint8Array.of(utf8(label).length), utf8(label), name("com")]);
    assert.equal(read(response({ question: odd, answers: [a(TO_QUESTION, "192.0.2.1")] })), undefined, label);
    const answers = [a(odd, "192.0.2.66"), a(TO_QUESTION, "192.0.2.1")];
    assert.equal(
      texts(response({ question: "www.example.com", answers })),
      "www.example.com 192.0.2.1/60",
      label,
    );
    const aliases = [cname(TO_QUESTION, odd), a(odd, "192.0.2.66")];
    assert.equal(
      texts(response({ question: "www.example.com", answers: aliases })),
      "www.example.com",
      label,
    );
  }
  assert.equal(
    texts(response({ question: "_a-1.example", answers: [a(TO_QUESTION, "192.0.2.1")] })),
    "_a-1.example 192.0.2.1/60",
  );
});

Deno.test("readDnsAnswer() refuses the root as a question", () => {
  assert.equal(
    read(response({ question: Uint8Array.of(0), answers: [a(TO_QUESTION, "192.0.2.1")] })),
    undefined,
  );
});

Deno.test("readDnsAnswer() follows pointers to the front only, and not many [RFC1035-4.1.4]", () => {
  const pointer = (to: number) => Uint8Array.of(0xc0 | (to >> 8), to);
  // The first answer begins at 29.
  const first = 12 + 13 + 4;
  for (
    const [owner, fine] of [
      [pointer(12), true],
      [pointer(20), true],
      [pointer(first), false],
      [pointer(first + 1), false],
      [pointer(first + 2), false],
      [pointer(0x3fff), false],
      [pointer(0), false],
      [pointer(11), false],
      [concat([name("a").subarray(0, 2), pointer(first)]), false],
      [concat([name("a").subarray(0, 2), pointer(12)]), true],
    ] as const
  ) {
    assert.equal(read(response({ answers: [a(owner, "192.0.2.1")] })) !== undefined, fine);
  }
  // A question has nothing in front of it to point to.
  assert.equal(read(response({ question: pointer(14), answers: [] })), undefined);
  assert.equal(read(response({ question: pointer(12), answers: [] })), undefined);
  // A chain of pointers in the data of a record that is skipped over.
  for (const [length, fine] of [[32, true], [33, false]] as const) {
    const at = first + 12;
    const chain = concat(
      Array.from({ length: length - 1 }, (_, i) => pointer(i === 0 ? 12 : at + 2 * (i - 1))),
    );
    const answers = [
      record(TO_QUESTION, { type: 16, data: chain }),
      a(pointer(at + chain.length - 2), "192.0.2.1"),
    ];
    assert.equal(texts(response({ answers })), fine ? "example.com 192.0.2.1/60" : undefined);
  }
});

Deno.test("readDnsAnswer() refuses reserved kinds of labels [RFC1035-4.1.4]", () => {
  for (const kind of [0x40, 0x41, 0x7f, 0x80, 0xbf]) {
    const odd = concat([Uint8Array.of(kind), new Uint8Array(63).fill(0x61), Uint8Array.of(0)]);
    assert.equal(read(response({ answers: [a(odd, "192.0.2.1")] })), undefined, String(kind));
  }
});

Deno.test("readDnsAnswer() takes names of 255 bytes and refuses longer ones, pointers counted through", () => {
  const label = "x".repeat(63);
  const long = [label, label, label, "x".repeat(61)].join(".");
  assert.equal(name(long).length, 255);
  assert.equal(read(response({ question: long, answers: [a(TO_QUESTION, "192.0.2.1")] }))?.question, long);
  assert.equal(read(response({ question: `${long}x`, answers: [] })), undefined);
  const longer = concat([Uint8Array.of(1, 0x61), TO_QUESTION]);
  assert.equal(read(response({ question: long, answers: [a(longer, "192.0.2.1")] })), undefined);
});

Deno.test("readDnsAnswer() refuses data that does not fit its type", () => {
  for (const [type, right] of [[A, 4], [AAAA, 16]] as const) {
    for (const length of [0, 3, 4, 5, 15, 16, 17]) {
      const answers = [record(TO_QUESTION, { type, data: new Uint8Array(length) })];
      assert.equal(
        read(response({ answers })) !== undefined,
        length === right,
        `type ${type}, ${length} bytes`,
      );
    }
  }
  const trailing = record(TO_QUESTION, { type: CNAME, data: concat([name("b.example"), Uint8Array.of(0)]) });
  assert.equal(read(response({ answers: [trailing] })), undefined);
  const overrun = response({ answers: [a(TO_QUESTION, "192.0.2.1")] });
  overrun[overrun.length - 5] = 5;
  assert.equal(read(overrun), undefined);
});

Deno.test("readDnsAnswer() passes over other types, other classes and IPv4-mapped addresses", () => {
  const answers = [
    record(TO_QUESTION, { type: 16, data: utf8("text") }),
    record(TO_QUESTION, { type: 65, data: new Uint8Array(9) }),
    record(TO_QUESTION, { type: A, data: ipToBytes(parseIp("192.0.2.66")!), recordClass: 3 }),
    aaaa(TO_QUESTION, "::ffff:192.0.2.67"),
    a(TO_QUESTION, "192.0.2.1"),
  ];
  assert.equal(texts(response({ answers })), "example.com 192.0.2.1/60");
  assert.equal(texts(response({ answers: [] })), "example.com");
});

Deno.test("readDnsAnswer() takes a TTL above 2^31-1 for 0", () => {
  for (
    const [ttl, expected] of [[0, 0], [0x7fff_ffff, 0x7fff_ffff], [0x8000_0000, 0], [0xffff_ffff, 0]] as const
  ) {
    const { addresses } = read(response({ answers: [a(TO_QUESTION, "192.0.2.1", ttl)] }))!;
    assert.equal(addresses[0]?.ttl, expected);
  }
});

Deno.test("readDnsAnswer() reads 64 records and no more", () => {
  const answers = Array.from({ length: 70 }, (_, i) => a(TO_QUESTION, `192.0.2.${i}`));
  assert.equal(read(response({ answers }))?.addresses.length, 64);
  const announced = response({ answers: answers.slice(0, 3) });
  new DataView(announced.buffer).setUint16(6, 0xffff);
  assert.equal(read(announced), undefined);
});

Deno.test("readDnsAnswer() reads a view in the middle of a buffer", () => {
  const message = response({ answers: [a(TO_QUESTION, "192.0.2.1")] });
  const bytes = concat([new Uint8Array(28).fill(0xff), message, new Uint8Array(3)]);
  assert.equal(readDnsAnswer(bytes, 28, 28 + message.length)?.addresses.length, 1);
  assert.equal(readDnsAnswer(message, 0, message.length + 1), undefined);
  assert.equal(readDnsAnswer(message, -1, message.length), undefined);
});

Deno.test("readDnsAnswer() never throws, and gives names and addresses of the promised form", () => {
  const corpus = [...readCorpus("dns_answer").values()];
  const mutated = fc.tuple(
    fc.constantFrom(...corpus),
    fc.array(fc.tuple(fc.nat(99), fc.nat(255)), { maxLength: 3 }),
  )
    .map(([bytes, patches]) => {
      const copy = bytes.slice();
      for (const [at, value] of patches) if (at < copy.length) copy[at] = value;
      return copy;
    });
  let answered = 0;
  fc.assert(
    fc.property(
      fc.oneof(fc.uint8Array({ maxLength: 90, size: "max" }), mutated, fc.constantFrom(...corpus)),
      (bytes) => {
        const answer = read(bytes);
        if (answer === undefined) return;
        answered++;
        assert.match(answer.question, /^[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*$/);
        assert.ok(answer.question.length <= 253 && answer.addresses.length <= 64);
        for (const { ttl } of answer.addresses) assert.ok(ttl >= 0 && ttl <= 0x7fff_ffff);
      },
    ),
    { numRuns: 3_000 },
  );
  assert.ok(answered > 100);
});

interface ResponseFields {
  readonly question?: string | Uint8Array;
  readonly questionClass?: number;
  readonly answers: readonly Uint8Array[];
}

function response(
  { question = "example.com", questionClass = 1, answers }: ResponseFields,
): Uint8Array<ArrayBuffer> {
  return concat([
    fromHex("1234 8180 0001"),
    Uint8Array.of(answers.length >> 8, answers.length, 0, 0, 0, 0),
    typeof question === "string" ? name(question) : question,
    Uint8Array.of(0, A, questionClass >> 8, questionClass),
    ...answers,
  ]);
}

function read(message: Uint8Array): ReturnType<typeof readDnsAnswer> {
  return readDnsAnswer(message, 0, message.length);
}

/** The answer as one line: the question, then each address with its TTL. */
function texts(message: Uint8Array): string | undefined {
  const answer = read(message);
  if (answer === undefined) return undefined;
  return [answer.question, ...answer.addresses.map(({ address, ttl }) => `${formatIp(address)}/${ttl}`)].join(
    " ",
  );
}

function name(text: string): Uint8Array<ArrayBuffer> {
  return concat([
    ...text.split(".").flatMap((label) => [Uint8Array.of(label.length), utf8(label)]),
    Uint8Array.of(0),
  ]);
}

function a(owner: Uint8Array, address: string, ttl = 60): Uint8Array<ArrayBuffer> {
  return record(owner, { type: A, data: ipToBytes(parseIp(address)!), ttl });
}

function aaaa(owner: Uint8Array, address: string): Uint8Array<ArrayBuffer> {
  return record(owner, { type: AAAA, data: ipToBytes(parseIp(address)!) });
}

function cname(owner: Uint8Array, target: Uint8Array, ttl = 60): Uint8Array<ArrayBuffer> {
  return record(owner, { type: CNAME, data: target, ttl });
}

function record(
  owner: Uint8Array,
  { type, data, ttl = 60, recordClass = 1 }: {
    type: number;
    data: Uint8Array;
    ttl?: number;
    recordClass?: number;
  },
): Uint8Array<ArrayBuffer> {
  const fixed = new Uint8Array(10);
  const view = new DataView(fixed.buffer);
  view.setUint16(0, type);
  view.setUint16(2, recordClass);
  view.setUint32(4, ttl);
  view.setUint16(8, data.length);
  return concat([owner, fixed, data]);
}
