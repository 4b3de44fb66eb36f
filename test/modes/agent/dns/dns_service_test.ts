import assert from "node:assert/strict";
import fc from "fast-check";
import { concat } from "../../../../src/base/bytes.ts";
import { parseIp, parsePrefix } from "../../../../src/base/ip.ts";
import { SILENT_LOGGER } from "../../../../src/base/log.ts";
import { ServiceZone } from "../../../../src/core/dns/service_zone.ts";
import { type DialableService, ServiceCatalogue } from "../../../../src/core/service/catalogue.ts";
import { DnsForwarder } from "../../../../src/io/dns/forwarder.ts";
import { DnsService } from "../../../../src/modes/agent/dns/dns_service.ts";
import { DNS_RCODE, DNS_TYPE } from "../../../../src/wire/dns/codes.ts";
import { type NameServer, respond, startNameServer } from "../../../io/dns/name_server.ts";
import { nameBytes, opt, query, readResponse, words } from "../../../wire/dns/support.ts";

const UDP = { viaTcp: false };
const NETWORK = {
  zone: "ginnel.internal",
  ipv4: parsePrefix("10.101.0.0/16")!,
  ipv6: parsePrefix("fd65:4321::/64")!,
};
const BASE = { endToEnd: "required", connectors: [], idleTimeout: 120_000 } as const;
const RANGES = Array.from({ length: 128 }, (_, i) => ({ low: 1_000 + 2 * i, high: 1_000 + 2 * i }));
const SERVICES: readonly DialableService[] = [
  { ...BASE, service: "web", index: 16 },
  {
    ...BASE,
    service: "many",
    index: 17,
    intercept: { addresses: ["*.corp.example"], portRanges: RANGES, protocols: ["tcp"] },
  },
];

Deno.test("nothing of ours reaches another server, connected or not; all else does", async () => {
  const asked: string[] = [];
  await using other = startNameServer((bytes) => {
    // Byte by byte: the id in front is any two.
    const text = String.fromCharCode(...bytes);
    if (!text.includes("ginnel-loop")) asked.push(text.slice(13, 16));
    return [respond(bytes)];
  });
  for (const valid of [true, false]) {
    using ground = setUp({ other, valid });
    const names = [
      "web.ginnel.internal",
      "nowhere.ginnel.internal",
      "a.corp.example",
      "16.0.101.10.in-addr.arpa",
    ];
    for (const name of names) {
      for (const type of [1, 12, 16, 28, 33, 65, 255]) {
        const answer = ground.service.handle(query(name, { type }), UDP);
        assert.ok(answer instanceof Uint8Array, "in the same turn");
        assert.equal(readResponse(answer).rcode === DNS_RCODE.SERVFAIL, !valid, `${name} ${type}`);
      }
    }
    assert.deepEqual(asked, []);
    const foreign = query("www.example.com");
    assert.deepEqual(await ground.service.handle(foreign, UDP), respond(foreign));
    assert.deepEqual(asked.splice(0), ["www"]);
  }
});

Deno.test("[RFC2308-3] answers: addresses, none of the type, no such name, each as a resolver wants it", () => {
  using ground = setUp();
  const ask = (name: string, type: number) => {
    const response = readResponse(ground.service.handle(query(name, { type }), UDP) as Uint8Array);
    assert.ok(response.authoritative);
    const records = response.records.map(({ owner, type, ttl, data }) => [owner, type, ttl, [...data]]);
    return { rcode: response.rcode, counts: response.counts, records };
  };
  assert.deepEqual(ask("wEb.Ginnel.internal", 1), {
    rcode: 0,
    counts: [1, 0, 0],
    records: [["wEb.Ginnel.internal", 1, 10, [10, 101, 0, 16]]],
  });
  const v6 = ask("web.ginnel.internal", 28).records[0]![3];
  assert.deepEqual(v6, [0xfd, 0x65, 0x43, 0x21, ...Array(10).fill(0), 0, 16]);
  const soa = [
    ...[...nameBytes("ginnel.internal"), ...nameBytes("hostmaster.ginnel.internal")],
    ...words(0, 1, 0, 3_600, 0, 600, 1, 20_864, 0, 1),
  ];
  const none = { counts: [0, 1, 0], records: [["GINNEL.internal", DNS_TYPE.SOA, 1, soa]] };
  assert.deepEqual(ask("web.GINNEL.internal", 16), { rcode: 0, ...none });
  assert.deepEqual(ask("a.b.GINNEL.internal", 1), { rcode: DNS_RCODE.NXDOMAIN, ...none });
  assert.deepEqual(ask("ginnel.internal", DNS_TYPE.SOA).records, [[
    "ginnel.internal",
    DNS_TYPE.SOA,
    10,
    soa,
  ]]);
  assert.deepEqual(ask("16.0.101.10.in-addr.arpa", 12).records, [
    ["16.0.101.10.in-addr.arpa", 12, 10, [...nameBytes("web.ginnel.internal")]],
  ]);
  assert.deepEqual(ask("_8080._tcp.web.ginnel.internal", 33).records[0]![3], [
    ...words(0, 0, 8_080),
    ...nameBytes("web.ginnel.internal"),
  ]);
});

Deno.test("an answer that is too long for UDP is whole over TCP", () => {
  using ground = setUp();
  const asked = query("_x._tcp.many.ginnel.internal", { type: DNS_TYPE.SRV, tail: opt({ size: 4_096 }) });
  const short = ground.service.handle(asked, UDP) as Uint8Array;
  assert.ok(readResponse(short).truncated && short.length < 512);
  const whole = readResponse(ground.service.handle(asked, { viaTcp: true }) as Uint8Array);
  assert.deepEqual([whole.truncated, whole.counts], [false, [128, 0, 1]]);
});

Deno.test("a foreign answer that is too long for the asker is truncated, not passed on", async () => {
  await using other = startNameServer((bytes) => [respond(bytes, 0x8180, new Uint8Array(600))]);
  using ground = setUp({ other });
  const answer = readResponse(await ground.service.handle(query("www.example.com"), UDP));
  assert.deepEqual([answer.truncated, answer.counts, answer.rcode], [true, [0, 0, 0], 0]);
});

Deno.test("where nobody answers, the asker is told so; without a forwarder it is refused", async () => {
  await using silent = startNameServer(() => []);
  using ground = setUp({ other: silent, deadline: 100 });
  const name = query("www.example.com");
  assert.equal(readResponse(await ground.service.handle(name, UDP)).rcode, DNS_RCODE.SERVFAIL);
  using alone = setUp();
  assert.equal(readResponse(await alone.service.handle(name, UDP)).rcode, DNS_RCODE.REFUSED);
  assert.deepEqual(alone.service.counts, { answered: 0, unavailable: 0, forwarded: 0, refused: 1 });
});

Deno.test("the asker's buffer may be used again while a query is on its way", async () => {
  const held = Promise.withResolvers<void>();
  await using other = startNameServer(async (bytes) => {
    await held.promise;
    return [respond(bytes)];
  });
  using ground = setUp({ other });
  const bytes = query("www.example.com");
  const kept = bytes.slice();
  const answer = ground.service.handle(bytes, UDP);
  bytes.fill(0);
  held.resolve();
  assert.deepEqual(await answer, respond(kept));
});

Deno.test("a response, or less than a header, gets nothing; CHAOS and transfers are refused", () => {
  using ground = setUp();
  for (const bytes of [query("a", { flags: 0x8000 }), new Uint8Array(11), new Uint8Array()]) {
    assert.equal((ground.service.handle(bytes, UDP) as Uint8Array).length, 0);
  }
  for (const options of [{ class: 3, type: 16 }, { type: 252 }]) {
    const answer = ground.service.handle(query("ginnel.internal", options), UDP) as Uint8Array;
    assert.equal(readResponse(answer).rcode, DNS_RCODE.REFUSED);
  }
});

Deno.test("fuzz: any question below our names has a well-formed answer that fits", () => {
  using ground = setUp();
  const label = fc.uint8Array({ minLength: 1, maxLength: 63 });
  const zone = fc.constantFrom("ginnel.internal", "corp.example", "0.101.10.in-addr.arpa");
  // 41 is OPT, which is no type of a question: that is answered with an error.
  const type = fc.nat(300).filter((value) => value !== 41 && (value < 249 || value === 255));
  fc.assert(fc.property(fc.array(label, { maxLength: 4 }), zone, type, (labels, end, type) => {
    const name = concat([...labels.flatMap((part) => [Uint8Array.of(part.length), part]), nameBytes(end)]);
    if (name.length > 255 || (labels.length === 0 && end === "corp.example")) return;
    const asked = concat([words(1, 0x0100, 1, 0, 0, 0), name, words(type, 1)]);
    const answer = ground.service.handle(asked, UDP);
    assert.ok(answer instanceof Uint8Array && answer.length <= 512);
    const { question, rcode, counts } = readResponse(answer);
    assert.deepEqual(question, asked.subarray(12));
    assert.ok(rcode === DNS_RCODE.NOERROR || rcode === DNS_RCODE.NXDOMAIN, `${rcode}`);
    assert.equal(counts[0] + counts[1], 1);
  }));
});

function setUp(
  { other, valid = true, ...options }: {
    readonly other?: NameServer;
    readonly valid?: boolean;
    readonly deadline?: number;
  } = {},
) {
  const hosts: string[] = [];
  const names = {
    indexOf: (host: string) => 32_768 + (hosts.includes(host) ? hosts.indexOf(host) : hosts.push(host) - 1),
    hostOf: (index: number) => hosts[index - 32_768],
  };
  const zone = new ServiceZone({ names, zone: NETWORK.zone });
  zone.update({ catalogue: new ServiceCatalogue(SERVICES, NETWORK), valid });
  const forwarder = other && new DnsForwarder({
    servers: () => Promise.resolve([other.server]),
    own: () => [parseIp("10.101.0.1")!],
    zone: () => zone.zone,
    logger: SILENT_LOGGER,
    ...options,
  });
  const service = new DnsService({ zone, ...(forwarder !== undefined && { forwarder }) });
  return { service, [Symbol.dispose]: () => forwarder?.[Symbol.dispose]() };
}
