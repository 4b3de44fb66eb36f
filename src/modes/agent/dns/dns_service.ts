/** The agent's resolver: answers a query for services itself, in the same turn, and forwards the others. */

import type { ServiceZone } from "../../../core/dns/service_zone.ts";
import { withoutMapping } from "../../../core/service/destinations.ts";
import { DNS_RCODE, type DnsRcode } from "../../../wire/dns/codes.ts";
import { type DnsQuery, readDnsQuery } from "../../../wire/dns/query.ts";
import { dnsRoom, writeDnsRefusal } from "../../../wire/dns/response.ts";
import { type DnsRecordView, readDnsRecords } from "../../../wire/dns/response_records.ts";
import { writeVerdict, zoneTypeOf } from "./zone_response.ts";

/** Who asks others. */
export interface QueryForwarder {
  /** Never rejects; `undefined` where nobody answered in time. */
  forward(query: DnsQuery, options: { readonly viaTcp: boolean }): Promise<Uint8Array | undefined>;
  /** Tells of a name in the zone that was asked for; true where it stands for nothing but a search for loops. */
  noticeProbe(name: string): boolean;
}

/** What the resolver is made of. */
export interface DnsServiceOptions {
  readonly zone: ServiceZone;
  /** Absent: what is none of ours is refused. */
  readonly forwarder?: QueryForwarder;
  readonly now?: () => number;
}

/** How many queries came, by what became of them. */
export interface DnsCounts {
  answered: number;
  /** Ours, while nothing may be reached. */
  unavailable: number;
  forwarded: number;
  refused: number;
}

/** Answers queries. */
export class DnsService {
  readonly #zone: ServiceZone;
  readonly #forwarder: QueryForwarder | undefined;
  readonly #now: () => number;
  readonly #counts: DnsCounts = { answered: 0, unavailable: 0, forwarded: 0, refused: 0 };

  constructor({ zone, forwarder, now = Date.now }: DnsServiceOptions) {
    this.#zone = zone;
    this.#forwarder = forwarder;
    this.#now = now;
  }

  /** What became of queries so far. */
  get counts(): Readonly<DnsCounts> {
    return this.#counts;
  }

  /**
   * Answers one query; at once for whatever is a service's, and never rejects. Empty: nothing is to be sent. The query's
   * bytes may be reused as soon as this returns.
   */
  handle(
    bytes: Uint8Array,
    { viaTcp }: { readonly viaTcp: boolean },
  ): Uint8Array | Promise<Uint8Array> {
    const query = readDnsQuery(bytes);
    if (query === undefined) return NOTHING;
    if (query.fault !== undefined) return this.#refuse(query, query.fault);
    this.#forwarder?.noticeProbe(query.name);
    const verdict = this.#zone.answer({ name: query.name, type: zoneTypeOf(query.type) }, this.#now());
    if (verdict.outcome === "forward") {
      if (this.#forwarder === undefined) return this.#refuse(query, DNS_RCODE.REFUSED);
      return this.#forward(query, { viaTcp, forwarder: this.#forwarder });
    }
    this.#counts[verdict.outcome === "unavailable" ? "unavailable" : "answered"]++;
    return writeVerdict(query, verdict, dnsRoom(query, { viaTcp }));
  }

  #refuse(query: DnsQuery, rcode: DnsRcode): Uint8Array {
    this.#counts.refused++;
    return writeDnsRefusal(query, rcode);
  }

  async #forward(
    { bytes }: DnsQuery,
    { viaTcp, forwarder }: { readonly viaTcp: boolean; readonly forwarder: QueryForwarder },
  ): Promise<Uint8Array> {
    this.#counts.forwarded++;
    const query = readDnsQuery(bytes.slice())!;
    const answer = await forwarder.forward(query, { viaTcp });
    if (answer === undefined) return writeDnsRefusal(query, DNS_RCODE.SERVFAIL);
    const isWhole = (answer[2]! & TRUNCATED) === 0;
    // What the other server took for our room may be more than the asker's.
    if (!isWhole || answer.length > dnsRoom(query, { viaTcp })) return writeTruncated(query);
    const records = readDnsRecords(answer, query.questionEnd);
    if (records === undefined || records.some((record) => this.#isOurs(record))) {
      return this.#refuse(query, DNS_RCODE.SERVFAIL);
    }
    return answer;
  }

  /**
   * What only we may say: a cache between us and a program might keep it as the word on one of our names, and a web page
   * from anywhere could have its visitor's browser speak to a service under the page's own name.
   */
  #isOurs({ owner, alias, address }: DnsRecordView): boolean {
    return this.#zone.holds(owner) || (alias !== undefined && this.#zone.holds(alias)) ||
      (address !== undefined && this.#zone.holdsAddress(withoutMapping(address)));
  }
}

/** In the third byte of a message. */
const TRUNCATED = 0x02;

const NOTHING = new Uint8Array(0);

/** A response without records that tells the asker to come by TCP. */
function writeTruncated(query: DnsQuery): Uint8Array {
  const response = writeDnsRefusal(query, DNS_RCODE.NOERROR);
  response[2]! |= TRUNCATED;
  return response;
}
