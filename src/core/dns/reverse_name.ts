/** Names that stand for addresses and prefixes: `in-addr.arpa` (RFC 1035 §3.5) and `ip6.arpa` (RFC 3596 §2.5). */

import { ipBits, type IpPrefix, type IpVersion } from "../../base/ip.ts";

/** Domains of one prefix at most: more lie in a prefix that ends just behind a label. */
const MAX_DOMAINS = 128;

const FORMS = [
  { version: 4, suffix: "in-addr.arpa", bits: 8, label: /^(?:0|[1-9][0-9]{0,2})$/, radix: 10 },
  { version: 6, suffix: "ip6.arpa", bits: 4, label: /^[0-9a-f]$/, radix: 16 },
] as const;

/** The prefix that a name stands for, an address' own when it is whole; `undefined` for any other name. */
export function readReverseName(name: string): IpPrefix | undefined {
  const form = FORMS.find(({ suffix }) => name.endsWith(`.${suffix}`));
  if (form === undefined) return undefined;
  const { version, bits, radix } = form;
  const labels = name.slice(0, -form.suffix.length - 1).split(".");
  if (labels.length * bits > ipBits(version)) return undefined;
  let first = 0n;
  for (const label of labels.toReversed()) {
    const value = form.label.test(label) ? Number.parseInt(label, radix) : Infinity;
    if (value >= 1 << bits) return undefined;
    first = (first << BigInt(bits)) | BigInt(value);
  }
  const length = labels.length * bits;
  return { version, first: first << BigInt(ipBits(version) - length), length };
}

/** The domains that hold the reverse names of a prefix, and no others; none for a prefix that is all addresses. */
export function reverseDomains(prefix: IpPrefix): string[] {
  const form = FORMS.find(({ version }) => version === prefix.version)!;
  const length = Math.ceil(prefix.length / form.bits) * form.bits;
  const count = 2 ** (length - prefix.length);
  if (length === 0 || count > MAX_DOMAINS) return [];
  const step = 1n << BigInt(ipBits(form.version) - length);
  return Array.from({ length: count }, (_, i) => domainOf(prefix.first + BigInt(i) * step, length, form));
}

function domainOf(first: bigint, length: number, form: (typeof FORMS)[number]): string {
  const { version, bits, radix, suffix } = form;
  const labels: string[] = [];
  for (let end = ipBits(version as IpVersion) - length; end < ipBits(version); end += bits) {
    labels.push(Number((first >> BigInt(end)) & BigInt((1 << bits) - 1)).toString(radix));
  }
  return [...labels, suffix].join(".");
}
