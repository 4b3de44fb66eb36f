/**
 * A few prefixes of both versions in flat arrays of words, and which destinations are never forwarded. Words are
 * signed 32-bit numbers: those are never boxed.
 */

import { ipBits, type IpPrefix, ipWords } from "../../base/ip.ts";

/** An address as signed words; of IPv4 only `dst3` counts. */
export interface Destination {
  readonly version: 4 | 6;
  readonly dst0: number;
  readonly dst1: number;
  readonly dst2: number;
  readonly dst3: number;
}

/** An unordered set of prefixes, searched in a line: rules and pools have few. */
export class PrefixSet {
  /** Network and mask of each IPv4 prefix. */
  readonly #v4: Int32Array;
  /** Four words of network and four of mask of each IPv6 prefix. */
  readonly #v6: Int32Array;

  constructor(prefixes: readonly IpPrefix[]) {
    this.#v4 = Int32Array.from(ofVersion(prefixes, 4).flatMap((prefix) => wordsOf(prefix).slice(3)).flat());
    this.#v6 = Int32Array.from(
      ofVersion(prefixes, 6).flatMap((prefix) => {
        const words = wordsOf(prefix);
        return [...words.map(([network]) => network), ...words.map(([, mask]) => mask)];
      }),
    );
  }

  /** Tells whether an address lies in one of the prefixes; never across versions. */
  contains(address: Destination): boolean {
    if (address.version === 4) {
      const words = this.#v4;
      for (let i = 0; i < words.length; i += 2) {
        if ((address.dst3 & words[i + 1]!) === words[i]) return true;
      }
      return false;
    }
    const words = this.#v6;
    for (let i = 0; i < words.length; i += 8) {
      if (
        (address.dst0 & words[i + 4]!) === words[i] && (address.dst1 & words[i + 5]!) === words[i + 1] &&
        (address.dst2 & words[i + 6]!) === words[i + 2] && (address.dst3 & words[i + 7]!) === words[i + 3]
      ) return true;
    }
    return false;
  }
}

/**
 * Tells whether a packet may be forwarded to an address at all: not to loopback, link-local, multicast, broadcast,
 * reserved or unspecified ones, nor to IPv6 forms of IPv4 addresses, which would pass by the rules for IPv4.
 */
export function isRoutable(address: Destination): boolean {
  if (address.version === 4) return isRoutable4(address.dst3);
  const { dst0, dst1, dst2, dst3 } = address;
  if (dst0 >>> 24 === 0xff || dst0 >>> 22 === LINK_LOCAL_10_BITS) return false;
  // ::, ::1 and both embeddings of RFC 4291 §2.5.5.
  if (dst0 === 0 && dst1 === 0 && (dst2 === 0 || dst2 === 0xffff)) return false;
  if (dst0 === NAT64_WORD && dst1 === 0 && dst2 === 0) return isRoutable4(dst3);
  return true;
}

/** Tells whether all of `inner` lies in one of `outer`. */
export function liesWithin(inner: IpPrefix, outer: readonly IpPrefix[]): boolean {
  return outer.some(({ version, first, length }) => {
    const hostBits = BigInt(ipBits(version) - length);
    return version === inner.version && length <= inner.length &&
      first >> hostBits === inner.first >> hostBits;
  });
}

/** First ten bits of fe80::/10. */
const LINK_LOCAL_10_BITS = 0x3fa;

/** First word of 64:ff9b::/96 (RFC 6052 §2.1): behind it stands an IPv4 address. */
const NAT64_WORD = 0x0064_ff9b;

function isRoutable4(address: number): boolean {
  const octet = address >>> 24;
  return octet !== 0 && octet !== 127 && octet < 224 && address >>> 16 !== 0xa9fe;
}

function ofVersion(prefixes: readonly IpPrefix[], version: 4 | 6): IpPrefix[] {
  return prefixes.filter((prefix) => prefix.version === version);
}

/** Network and mask of each word. */
function wordsOf({ version, first, length }: IpPrefix): [network: number, mask: number][] {
  const bits = version === 4 ? 96 + length : length;
  return ipWords({ version, value: first }).map((word, index) => {
    const fixed = Math.min(32, Math.max(0, bits - 32 * index));
    return [word | 0, fixed === 0 ? 0 : (-1 << (32 - fixed))];
  });
}
