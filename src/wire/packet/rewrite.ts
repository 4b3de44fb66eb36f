/**
 * Gives TCP packets of one flow other addresses and ports. What that does to checksums is the same for all of them, so it is
 * worked out once per flow (RFC 1624) and a packet costs two additions.
 */
import type { PacketView } from "./packet_view.ts";

/** Where the packets of a flow come from and go to; addresses of 4 or 16 bytes, all of one length. */
export interface FlowEnds {
  readonly src: Uint8Array;
  readonly dst: Uint8Array;
  readonly srcPort: number;
  readonly dstPort: number;
}

/** A worked-out change of one flow's ends. */
export interface FlowRewrite {
  /** Source and destination, as they stand in the packet. */
  readonly addresses: Uint8Array;
  readonly srcPort: number;
  readonly dstPort: number;
  /** What the change of addresses adds to the sum of the IPv4 header; at most 16 bits. */
  readonly addressDelta: number;
  /** What the whole change adds to the sum of the TCP segment with its pseudo-header; at most 16 bits. */
  readonly delta: number;
}

/** Works out the change from `from` to `to`. */
export function flowRewrite(from: FlowEnds, to: FlowEnds): FlowRewrite {
  const addresses = new Uint8Array(to.src.length + to.dst.length);
  addresses.set(to.src);
  addresses.set(to.dst, to.src.length);
  const addressDelta = fold(
    complements(from.src) + complements(from.dst) + words(addresses),
  );
  const ports = (~from.srcPort & 0xffff) + (~from.dstPort & 0xffff) + to.srcPort + to.dstPort;
  const { srcPort, dstPort } = to;
  return { addresses, srcPort, dstPort, addressDelta, delta: fold(addressDelta + ports) };
}

/** Rewrites the TCP packet at `start`, which `view` describes and whose checksums are right. The view stays as it was. */
// deno-lint-ignore ginnel/few-parameters -- called per packet: an options object would be an allocation
export function rewriteFlow(
  bytes: Uint8Array,
  start: number,
  view: Pick<PacketView, "version" | "headerLength">,
  rewrite: FlowRewrite,
): void {
  const ipv4 = view.version === 4;
  const { addresses, srcPort, dstPort } = rewrite;
  const at = start + (ipv4 ? IPV4_ADDRESSES : IPV6_ADDRESSES);
  for (let i = 0; i < addresses.length; i++) bytes[at + i] = addresses[i]!;
  if (ipv4) adjust(bytes, start + IPV4_CHECKSUM, rewrite.addressDelta);
  const tcp = start + view.headerLength;
  bytes[tcp] = srcPort >> 8;
  bytes[tcp + 1] = srcPort;
  bytes[tcp + 2] = dstPort >> 8;
  bytes[tcp + 3] = dstPort;
  adjust(bytes, tcp + TCP_CHECKSUM, rewrite.delta);
}

const IPV4_ADDRESSES = 12;
const IPV6_ADDRESSES = 8;
const IPV4_CHECKSUM = 10;
const TCP_CHECKSUM = 16;

/** RFC 1624 §3: the new checksum is the complement of the old one's complement plus the change. */
function adjust(bytes: Uint8Array, at: number, delta: number): void {
  const sum = (~((bytes[at]! << 8) | bytes[at + 1]!) & 0xffff) + delta;
  const checksum = ~((sum & 0xffff) + (sum >>> 16));
  bytes[at] = checksum >> 8;
  bytes[at + 1] = checksum;
}

function words(bytes: Uint8Array): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) sum += (bytes[i]! << 8) | bytes[i + 1]!;
  return sum;
}

function complements(bytes: Uint8Array): number {
  return bytes.length / 2 * 0xffff - words(bytes);
}

function fold(sum: number): number {
  let folded = sum;
  while (folded > 0xffff) folded = (folded & 0xffff) + (folded >>> 16);
  return folded;
}
