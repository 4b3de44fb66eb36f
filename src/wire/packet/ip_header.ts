/**
 * The headers of IPv4 (RFC 791) and IPv6 (RFC 8200), extension headers included, up to the upper-layer header.
 */
import { internetChecksum } from "./checksum.ts";
import type { PacketFault, PacketView } from "./packet_view.ts";

/** More extension headers than this are nothing but work for whoever reads them. */
const MAX_EXTENSION_HEADERS = 8;
/** The largest packet that fragments can make. */
const MAX_REASSEMBLED = 65_535;

const IPV4_HEADER = 20;
const IPV6_HEADER = 40;

// Extension headers of IPv6.
const HOP_BY_HOP = 0;
const ROUTING = 43;
/** The header of IPv6 fragments. */
export const FRAGMENT = 44;
const AUTHENTICATION = 51;
const DESTINATION_OPTIONS = 60;
const MOBILITY = 135;
const HOST_IDENTITY = 139;
const SHIM6 = 140;

// Options of IPv4.
const END_OF_OPTIONS = 0;
const NO_OPERATION = 1;
const LOOSE_SOURCE_ROUTE = 131;
const STRICT_SOURCE_ROUTE = 137;

/**
 * Fills the part of `view` that comes from the IP header of the packet from `start` to `end`. Only of a `whole` packet are
 * lengths and checksum checked; the others are quotations.
 */
// deno-lint-ignore ginnel/few-parameters -- called per packet: an options object would be an allocation
export function readIpHeader(
  bytes: Uint8Array,
  start: number,
  end: number,
  view: PacketView,
  whole: boolean,
): PacketFault | undefined {
  if (start < 0 || start >= end || end > bytes.length) return "truncated";
  switch (bytes[start]! >> 4) {
    case 4:
      return readIpv4(bytes, start, end, view, whole);
    case 6:
      return readIpv6(bytes, start, end, view, whole);
    default:
      return "bad_version";
  }
}

function readIpv4(
  bytes: Uint8Array,
  start: number,
  end: number,
  view: PacketView,
  whole: boolean,
): PacketFault | undefined {
  const available = end - start;
  if (available < IPV4_HEADER) return "truncated";
  const headerLength = (bytes[start]! & 0x0f) * 4;
  if (headerLength < IPV4_HEADER) return "bad_header";
  if (available < headerLength) return "truncated";
  const totalLength = readUint16(bytes, start + 2);
  const fragment = readUint16(bytes, start + 6);
  view.version = 4;
  view.headerLength = headerLength;
  view.totalLength = totalLength;
  view.protocol = bytes[start + 9]!;
  view.ttl = bytes[start + 8]!;
  view.src0 = 0;
  view.src1 = 0;
  view.src2 = 0xffff;
  view.src3 = readUint32(bytes, start + 12);
  view.dst0 = 0;
  view.dst1 = 0;
  view.dst2 = 0xffff;
  view.dst3 = readUint32(bytes, start + 16);
  view.fragmentOffset = (fragment & 0x1fff) * 8;
  view.moreFragments = (fragment & 0x2000) !== 0;
  view.fragmentId = readUint16(bytes, start + 4);
  view.dontFragment = (fragment & 0x4000) !== 0;
  if (!whole) return undefined;
  if (totalLength < headerLength) return "bad_length";
  if (totalLength !== available) return totalLength > available ? "truncated" : "bad_length";
  if (internetChecksum(bytes, start, start + headerLength) !== 0) return "bad_checksum";
  if (headerLength > IPV4_HEADER && !areOptionsFine(bytes, start + IPV4_HEADER, start + headerLength)) {
    return "bad_header";
  }
  return checkFragment(view, headerLength);
}

/** Options must be well formed, and none may send the packet elsewhere than to the destination that was judged. */
function areOptionsFine(bytes: Uint8Array, start: number, end: number): boolean {
  let offset = start;
  while (offset < end) {
    const option = bytes[offset]!;
    if (option === END_OF_OPTIONS) return true;
    if (option === NO_OPERATION) {
      offset++;
      continue;
    }
    if (option === LOOSE_SOURCE_ROUTE || option === STRICT_SOURCE_ROUTE) return false;
    const length = offset + 1 < end ? bytes[offset + 1]! : 0;
    if (length < 2 || offset + length > end) return false;
    offset += length;
  }
  return true;
}

function readIpv6(
  bytes: Uint8Array,
  start: number,
  end: number,
  view: PacketView,
  whole: boolean,
): PacketFault | undefined {
  const available = end - start;
  if (available < IPV6_HEADER) return "truncated";
  const totalLength = IPV6_HEADER + readUint16(bytes, start + 4);
  view.version = 6;
  view.totalLength = totalLength;
  view.ttl = bytes[start + 7]!;
  view.src0 = readUint32(bytes, start + 8);
  view.src1 = readUint32(bytes, start + 12);
  view.src2 = readUint32(bytes, start + 16);
  view.src3 = readUint32(bytes, start + 20);
  view.dst0 = readUint32(bytes, start + 24);
  view.dst1 = readUint32(bytes, start + 28);
  view.dst2 = readUint32(bytes, start + 32);
  view.dst3 = readUint32(bytes, start + 36);
  view.fragmentOffset = 0;
  view.moreFragments = false;
  view.fragmentId = 0;
  view.dontFragment = true;
  // RFC 6890 §2.2.3: IPv4-mapped addresses are never on the wire; here they would pass for the IPv4 address.
  if (view.src2 === 0xffff && view.src0 === 0 && view.src1 === 0) return "bad_header";
  if (view.dst2 === 0xffff && view.dst0 === 0 && view.dst1 === 0) return "bad_header";
  if (whole && totalLength !== available) return totalLength > available ? "truncated" : "bad_length";
  return walkExtensionHeaders(bytes, start, end, view) ??
    (whole ? checkFragment(view, view.headerLength) : undefined);
}

/** Finds the upper-layer header behind extension headers; those of a later fragment cannot be told from its data. */
function walkExtensionHeaders(
  bytes: Uint8Array,
  start: number,
  end: number,
  view: PacketView,
): PacketFault | undefined {
  let next = bytes[start + 6]!;
  let offset = start + IPV6_HEADER;
  let hasFragment = false;
  for (let count = 0; isExtensionHeader(next); count++) {
    if (count === MAX_EXTENSION_HEADERS) return "bad_header";
    if (end - offset < 8) return "truncated";
    let length = (bytes[offset + 1]! + 1) * 8;
    switch (next) {
      case HOP_BY_HOP:
        // RFC 8200 §4.1: hop-by-hop options stand right behind the IPv6 header.
        if (count > 0) return "bad_header";
        break;
      case ROUTING:
        // With segments left, the packet goes elsewhere than to the destination that was judged.
        if (bytes[offset + 3] !== 0) return "bad_header";
        break;
      case AUTHENTICATION:
        length = (bytes[offset + 1]! + 2) * 4;
        break;
      case FRAGMENT:
        if (hasFragment) return "bad_header";
        hasFragment = true;
        length = 8;
        view.fragmentOffset = readUint16(bytes, offset + 2) & 0xfff8;
        view.moreFragments = (bytes[offset + 3]! & 1) !== 0;
        view.fragmentId = readUint32(bytes, offset + 4);
        break;
    }
    if (offset + length > end) return "truncated";
    next = bytes[offset]!;
    offset += length;
    if (view.fragmentOffset > 0) break;
  }
  view.protocol = next;
  view.headerLength = offset - start;
  return undefined;
}

function isExtensionHeader(protocol: number): boolean {
  switch (protocol) {
    case HOP_BY_HOP:
    case ROUTING:
    case FRAGMENT:
    case AUTHENTICATION:
    case DESTINATION_OPTIONS:
    case MOBILITY:
    case HOST_IDENTITY:
    case SHIM6:
      return true;
    default:
      return false;
  }
}

/** A fragment must carry something, in units of eight bytes unless it is the last, within the largest packet. */
function checkFragment(view: PacketView, headerLength: number): PacketFault | undefined {
  if (!view.moreFragments && view.fragmentOffset === 0) return undefined;
  const length = view.totalLength - headerLength;
  if (length === 0 || (view.moreFragments && length % 8 !== 0)) return "bad_length";
  return view.fragmentOffset + length > MAX_REASSEMBLED ? "bad_header" : undefined;
}

/** Reads 16 bits; the caller checked that they are there. */
export function readUint16(bytes: Uint8Array, offset: number): number {
  return (bytes[offset]! << 8) | bytes[offset + 1]!;
}

function readUint32(bytes: Uint8Array, offset: number): number {
  return (readUint16(bytes, offset) * 0x1_0000) + readUint16(bytes, offset + 2);
}
