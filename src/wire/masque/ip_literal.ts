/**
 * Strict IP address literals, as URIs of MASQUE carry them: four decimal octets without leading zeros, or the
 * forms of RFC 4291 §2.2 without a zone.
 */

/** Tells whether `text` is a whole IPv4 address. */
export function isIpv4(text: string): boolean {
  return /^(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(?:\.(?!$)|$)){4}$/.test(text);
}

/** Tells whether `text` is a whole IPv6 address; hexadecimal may be of either case. */
export function isIpv6(text: string): boolean {
  const halves = text.split("::");
  if (halves.length > 2) return false;
  let groups = 0;
  for (const [i, half] of halves.entries()) {
    if (half === "" && halves.length === 2) continue;
    const isLast = i === halves.length - 1;
    for (const [j, group] of half.split(":").entries()) {
      const embedsIpv4 = isLast && half.split(":").length - 1 === j && group.includes(".");
      if (!(embedsIpv4 ? isIpv4(group) : /^[0-9a-fA-F]{1,4}$/.test(group))) return false;
      groups += embedsIpv4 ? 2 : 1;
    }
  }
  return halves.length === 2 ? groups < 8 : groups === 8;
}
