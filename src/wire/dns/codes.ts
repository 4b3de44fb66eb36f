/** Numbers of the Domain Name System that a server for a few names needs. */

/** Types of records and questions. */
export const DNS_TYPE = {
  A: 1,
  SOA: 6,
  PTR: 12,
  AAAA: 28,
  SRV: 33,
  OPT: 41,
  ANY: 255,
} as const;

/** The class of everything in the Internet. */
export const DNS_CLASS_IN = 1;

/** What becomes of a query; `BADVERS` needs EDNS to be said. */
export const DNS_RCODE = {
  NOERROR: 0,
  FORMERR: 1,
  SERVFAIL: 2,
  NXDOMAIN: 3,
  NOTIMP: 4,
  REFUSED: 5,
  BADVERS: 16,
} as const;

/** A response code of ours. */
export type DnsRcode = (typeof DNS_RCODE)[keyof typeof DNS_RCODE];

/** Bytes of a message's header. */
export const DNS_HEADER = 12;
/** RFC 1035 §4.2.1: bytes of a message over UDP for who says nothing else. */
export const DNS_PLAIN_SIZE = 512;
/** Bytes of a message over UDP at most: fits whatever path there is, IPv6's smallest included. */
export const DNS_UDP_SIZE = 1_232;
/** Bytes of a message over TCP. */
export const DNS_TCP_SIZE = 65_535;
