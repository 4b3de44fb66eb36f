/** Verdicts on questions as DNS responses. */

import { ipToBytes } from "../../../base/ip.ts";
import type { ZoneRecord, ZoneType, ZoneVerdict } from "../../../core/dns/service_zone.ts";
import { DNS_RCODE, DNS_TYPE } from "../../../wire/dns/codes.ts";
import { writeDnsName } from "../../../wire/dns/names.ts";
import type { DnsQuery } from "../../../wire/dns/query.ts";
import {
  type DnsRecord,
  QUESTION_NAME,
  soaData,
  srvData,
  writeDnsRefusal,
  writeDnsResponse,
} from "../../../wire/dns/response.ts";

/** Seconds for which an answer holds: a service that goes is soon gone. */
const TTL = 10;
/** Seconds for which "there is none" holds. */
const NEGATIVE_TTL = 1;

/** A question's type by its number. */
export function zoneTypeOf(type: number): ZoneType {
  return TYPES.get(type) ?? "other";
}

/** Writes the response that says so, in at most `room` bytes. */
export function writeVerdict(
  query: DnsQuery,
  verdict: Exclude<ZoneVerdict, { readonly outcome: "forward" }>,
  room: number,
): Uint8Array<ArrayBuffer> {
  if (verdict.outcome === "unavailable") return writeDnsRefusal(query, DNS_RCODE.SERVFAIL);
  const { apex } = verdict;
  if (verdict.outcome === "found") {
    const answers = verdict.records.flatMap((record) => recordOf(record, apex) ?? []);
    return writeDnsResponse(query, { rcode: DNS_RCODE.NOERROR, authoritative: true, answers }, room);
  }
  const rcode = verdict.outcome === "no-name" ? DNS_RCODE.NXDOMAIN : DNS_RCODE.NOERROR;
  // RFC 2308 §3: the SOA of the zone stands with "there is none", for as long as that may be remembered.
  const owner = ownerOf(query, apex);
  const authority = [{ owner, type: DNS_TYPE.SOA, ttl: NEGATIVE_TTL, data: soaOf(apex) }];
  return writeDnsResponse(query, { rcode, authoritative: true, authority }, room);
}

const TYPES: ReadonlyMap<number, ZoneType> = new Map([
  [DNS_TYPE.A, "A"],
  [DNS_TYPE.AAAA, "AAAA"],
  [DNS_TYPE.SRV, "SRV"],
  [DNS_TYPE.PTR, "PTR"],
  [DNS_TYPE.SOA, "SOA"],
  [DNS_TYPE.ANY, "ANY"],
]);

/** A record about the name asked for; `undefined` where one of its names cannot be written. */
function recordOf(record: ZoneRecord, apex: string): DnsRecord | undefined {
  const answer = (type: number, data: Uint8Array | undefined) =>
    data && { owner: QUESTION_NAME, type, ttl: TTL, data };
  switch (record.type) {
    case "address": {
      const { address } = record;
      return answer(address.version === 4 ? DNS_TYPE.A : DNS_TYPE.AAAA, ipToBytes(address));
    }
    case "srv": {
      const target = writeDnsName(record.target);
      return answer(DNS_TYPE.SRV, target && srvData(record.port, target));
    }
    case "ptr":
      return answer(DNS_TYPE.PTR, writeDnsName(record.host));
    case "soa":
      return answer(DNS_TYPE.SOA, soaOf(apex));
  }
}

function soaOf(apex: string): Uint8Array<ArrayBuffer> {
  // Stands for "none", where a name is too long, or too odd, for one.
  const root = new Uint8Array(1);
  const server = writeDnsName(apex) ?? root;
  const mailbox = writeDnsName(`hostmaster.${apex}`) ?? root;
  return soaData({ server, mailbox, negativeTtl: NEGATIVE_TTL });
}

/** Where `apex`, an end of the name asked for, stands in the question. */
function ownerOf(query: DnsQuery, apex: string): number {
  let skip = labelsOf(query.name) - labelsOf(apex);
  let offset = QUESTION_NAME;
  for (; skip > 0; skip--) offset += query.bytes[offset]! + 1;
  return offset;
}

function labelsOf(name: string): number {
  return name === "" ? 0 : name.split(".").length;
}
