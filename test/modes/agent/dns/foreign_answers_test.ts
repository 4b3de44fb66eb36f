/** What other name servers may not say: anything about the network's own names, or addresses of its services. */

import assert from "node:assert/strict";
import { concat } from "../../../../src/base/bytes.ts";
import { parsePrefix } from "../../../../src/base/ip.ts";
import { ServiceZone } from "../../../../src/core/dns/service_zone.ts";
import { NameAddresses } from "../../../../src/core/service/name_addresses.ts";
import { ServiceCatalogue } from "../../../../src/core/service/catalogue.ts";
import { DnsService } from "../../../../src/modes/agent/dns/dns_service.ts";
import { DNS_RCODE } from "../../../../src/wire/dns/codes.ts";
import { nameBytes, query, readResponse, words } from "../../../wire/dns/support.ts";

const ASKED = query("www.example.com");
const QUESTION = Uint8Array.of(0xc0, 12);
const [A, CNAME, AAAA, DNAME, NS] = [1, 5, 28, 39, 2] as const;
const ADDRESS = [192, 0, 2, 7];
const MAPPED = [...new Array(10).fill(0), 0xff, 0xff, 10, 101, 0, 16];
const VIRTUAL6 = [0xfd, 0x65, 0x43, 0x21, ...new Array(11).fill(0), 16];

Deno.test("an answer that says something about the zone, or leads into the pools, is not passed on", async () => {
  const attacks: Record<string, readonly Uint8Array[]> = {
    "an address for a service": [record(nameBytes("web.ginnel.internal"), A, ADDRESS)],
    "in any case": [record(nameBytes("WEB.Ginnel.INTERNAL"), A, ADDRESS)],
    "for a name that is not there": [record(nameBytes("new.ginnel.internal"), A, ADDRESS)],
    "behind an alias": [
      record(QUESTION, CNAME, [...nameBytes("web.ginnel.internal")]),
      record(nameBytes("web.ginnel.internal"), A, ADDRESS),
    ],
    "an alias alone": [record(QUESTION, CNAME, [...nameBytes("web.ginnel.internal")])],
    "the zone as a whole": [record(QUESTION, DNAME, [...nameBytes("ginnel.internal")])],
    "other name servers": [record(nameBytes("ginnel.internal"), NS, [...nameBytes("ns.evil.example")])],
    "beside a good one": [record(QUESTION, A, ADDRESS), record(nameBytes("ginnel.internal"), 99, [1])],
    "a service's address": [record(QUESTION, A, [10, 101, 0, 16])],
    "the resolver's": [record(QUESTION, A, ADDRESS), record(QUESTION, A, [10, 101, 0, 1])],
    "a service's IPv6 address": [record(QUESTION, AAAA, VIRTUAL6)],
    "a mapped one": [record(QUESTION, AAAA, MAPPED)],
    "half a record": [record(QUESTION, A, ADDRESS).subarray(0, 9)],
    "a name in circles": [record(Uint8Array.of(0xc0, ASKED.length), A, ADDRESS)],
  };
  for (const [what, records] of Object.entries(attacks)) {
    for (const section of [0, 1, 2]) {
      const answer = await answerTo(response(records, section));
      assert.equal(readResponse(answer).rcode, DNS_RCODE.SERVFAIL, `${what}, section ${section}`);
      assert.deepEqual(readResponse(answer).records, [], what);
    }
  }
  const cut = await answerTo(response(attacks["behind an alias"]!, 0, 0x8380));
  assert.deepEqual([readResponse(cut).truncated, readResponse(cut).records], [true, []]);
});

Deno.test("every other answer is passed on as it came", async () => {
  const answers = [
    [],
    [record(QUESTION, A, ADDRESS), record(QUESTION, AAAA, VIRTUAL6.with(3, 0x22))],
    [
      record(QUESTION, CNAME, [...nameBytes("notginnel.internal")]),
      record(nameBytes("internal"), A, ADDRESS),
    ],
    [record(QUESTION, 16, [...nameBytes("web.ginnel.internal")])],
    // One label that has a dot in it.
    [record(
      concat([Uint8Array.of(8), new TextEncoder().encode("x.ginnel"), nameBytes("internal")]),
      A,
      ADDRESS,
    )],
  ];
  for (const records of answers) {
    for (const flags of [0x8180, 0x8183, 0x85a0]) {
      const whole = response(records, 0, flags);
      assert.deepEqual(await answerTo(whole), whole);
    }
  }
});

async function answerTo(foreign: Uint8Array): Promise<Uint8Array> {
  const network = {
    zone: "ginnel.internal",
    ipv4: parsePrefix("10.101.0.0/16")!,
    ipv6: parsePrefix("fd65:4321::/64")!,
  };
  const zone = new ServiceZone({ names: new NameAddresses(), zone: network.zone });
  zone.update({ catalogue: new ServiceCatalogue([], network), valid: true });
  const forwarder = { forward: () => Promise.resolve(foreign), noticeProbe: () => false };
  return await new DnsService({ zone, forwarder }).handle(ASKED, { viaTcp: true });
}

function response(records: readonly Uint8Array[], section: number, flags = 0x8180): Uint8Array<ArrayBuffer> {
  const bytes = concat([ASKED, ...records]);
  bytes.set(words(flags), 2);
  bytes.set(words(records.length), 6 + 2 * section);
  return bytes;
}

function record(owner: Uint8Array, type: number, data: readonly number[]): Uint8Array {
  return concat([owner, words(type, 1, 0, 60, data.length), Uint8Array.from(data)]);
}
