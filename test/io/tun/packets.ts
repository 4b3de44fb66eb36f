/**
 * Packets made and judged without the shim: checksums are summed here word by word, as RFC 1071 tells it, so that the
 * C code and this file cannot be wrong together.
 */

/** The protocols these packets carry. */
export type Upper = "tcp" | "udp" | "icmp";

/** A packet to make; what is left out has a plain default. */
export interface PacketOptions {
  readonly version?: 4 | 6;
  readonly upper?: Upper;
  readonly payload?: Uint8Array;
  readonly sourcePort?: number;
  readonly destinationPort?: number;
  readonly sequence?: number;
  readonly acknowledgement?: number;
  readonly flags?: number;
  readonly window?: number;
  /** TCP options; a multiple of four bytes. */
  readonly options?: Uint8Array;
  readonly identification?: number;
  readonly dontFragment?: boolean;
  readonly ttl?: number;
  readonly service?: number;
}

/** A frame as the kernel hands it over: segmentation left to the reader. */
export interface FrameOptions extends PacketOptions {
  /** Payload bytes per packet. */
  readonly segment: number;
  readonly ecn?: boolean;
}

/** Bytes of the virtio_net_hdr in front of a frame. */
export const VNET = 10;
/** TCP flags. */
export const FIN = 1, SYN = 2, RST = 4, PSH = 8, ACK = 16, URG = 32, ECE = 64, CWR = 128;

const NUMBERS = { tcp: 6, udp: 17, icmp: 1 } as const;
const ICMPV6 = 58;
const GSO = { tcp4: 1, tcp6: 4, udp: 5, ecn: 0x80 } as const;

/** Makes a packet whose checksums are right. */
export function makePacket(options: PacketOptions = {}): Uint8Array<ArrayBuffer> {
  return seal(layOut(options));
}

/** Makes the checksums of a packet right again after a change. */
export function seal(packet: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  if (packet[0]! >> 4 === 4) {
    packet.fill(0, 10, 12);
    new DataView(packet.buffer).setUint16(10, ~ones([packet.subarray(0, 20)]) & 0xffff);
  }
  const place = checksumPlace(packet);
  if (place !== undefined) {
    packet.fill(0, place.field, place.field + 2);
    const sum = ~ones([pseudoHeader(packet, place), packet.subarray(place.start)]) & 0xffff;
    new DataView(packet.buffer).setUint16(place.field, place.protocol === 17 && sum === 0 ? 0xffff : sum);
  }
  return packet;
}

/** Makes a frame: a virtio_net_hdr and one large packet with the pseudo header's sum in its checksum field. */
export function makeFrame({ segment, ecn = false, ...options }: FrameOptions): Uint8Array<ArrayBuffer> {
  const packet = layOut(options);
  const place = checksumPlace(packet);
  if (place === undefined) throw new TypeError("Cannot segment such a packet");
  new DataView(packet.buffer).setUint16(place.field, ones([pseudoHeader(packet, place)]));
  const type = place.protocol === 17 ? GSO.udp : options.version === 6 ? GSO.tcp6 : GSO.tcp4;
  const frame = new Uint8Array(VNET + packet.length);
  const view = new DataView(frame.buffer);
  view.setUint8(0, 1);
  view.setUint8(1, type | (ecn ? GSO.ecn : 0));
  view.setUint16(2, headerLength(packet), true);
  view.setUint16(4, segment, true);
  view.setUint16(6, place.start, true);
  view.setUint16(8, place.field - place.start, true);
  frame.set(packet, VNET);
  return frame;
}

/** What is wrong with a packet; nothing for a good one. */
export function packetFaults(packet: Uint8Array): string[] {
  const view = new DataView(packet.buffer, packet.byteOffset, packet.byteLength);
  const version = (packet[0] ?? 0) >> 4;
  if (version !== 4 && version !== 6) return [`version ${version}`];
  const faults: string[] = [];
  if (version === 4) {
    const header = (packet[0]! & 15) * 4;
    if (view.getUint16(2) !== packet.length) {
      faults.push(`total length ${view.getUint16(2)} of ${packet.length}`);
    }
    if (ones([packet.subarray(0, header)]) !== 0xffff) faults.push("IPv4 checksum");
    if ((view.getUint16(6) & 0x3fff) !== 0) return faults;
  } else if (view.getUint16(4) + 40 !== packet.length) {
    faults.push(`payload length ${view.getUint16(4)} of ${packet.length}`);
  }
  const place = checksumPlace(packet);
  if (place === undefined) return faults;
  if (place.protocol === 17) {
    const length = view.getUint16(place.start + 4);
    if (length !== packet.length - place.start) faults.push(`UDP length ${length}`);
    if (view.getUint16(place.field) === 0) return version === 4 ? faults : [...faults, "no UDP checksum"];
  }
  const sum = ones([pseudoHeader(packet, place), packet.subarray(place.start)]);
  if (sum !== 0xffff) faults.push(`checksum of protocol ${place.protocol}`);
  return faults;
}

/** What a TCP or UDP packet carries. */
export function payloadOf(packet: Uint8Array): Uint8Array {
  return packet.subarray(headerLength(packet));
}

/** A TCP packet's own header fields. */
export function tcpOf(packet: Uint8Array): { sequence: number; flags: number; identification: number } {
  const view = new DataView(packet.buffer, packet.byteOffset, packet.byteLength);
  const start = checksumPlace(packet)!.start;
  return {
    sequence: view.getUint32(start + 4),
    flags: packet[start + 13]!,
    identification: packet[0]! >> 4 === 4 ? view.getUint16(4) : 0,
  };
}

/** Bytes up to the payload. */
export function headerLength(packet: Uint8Array): number {
  const { start, protocol } = checksumPlace(packet)!;
  return start + (protocol === 6 ? (packet[start + 12]! >> 4) * 4 : 8);
}

interface Place {
  readonly protocol: number;
  /** Where the upper header starts. */
  readonly start: number;
  /** Where its checksum lies. */
  readonly field: number;
}

function layOut(options: PacketOptions): Uint8Array<ArrayBuffer> {
  const { version = 4, upper = "tcp", payload = new Uint8Array(0) } = options;
  const start = version === 4 ? 20 : 40;
  const tcpOptions = upper === "tcp" ? options.options ?? new Uint8Array(0) : new Uint8Array(0);
  const header = upper === "tcp" ? 20 + tcpOptions.length : 8;
  const packet = new Uint8Array(start + header + payload.length);
  const view = new DataView(packet.buffer);
  const { ttl = 64, service = 0 } = options;
  const protocol = upper === "icmp" && version === 6 ? ICMPV6 : NUMBERS[upper];
  if (version === 4) {
    packet.set([0x45, service]);
    view.setUint16(2, packet.length & 0xffff);
    view.setUint16(4, options.identification ?? 1);
    view.setUint16(6, options.dontFragment ?? true ? 0x4000 : 0);
    packet.set([ttl, protocol, 0, 0, 10, 9, 0, 1, 10, 9, 0, 2], 8);
    view.setUint16(10, ~ones([packet.subarray(0, 20)]) & 0xffff);
  } else {
    view.setUint32(0, 0x60000000 | service << 20 | 0x12345);
    view.setUint16(4, packet.length - 40 & 0xffff);
    packet.set([protocol, ttl, 0xfd, 9], 6);
    packet.set([0xfd, 9], 24);
    packet[23] = 1;
    packet[39] = 2;
  }
  layOutUpper(view, { ...options, upper, start, header, length: packet.length - start });
  if (tcpOptions.length > 0) packet.set(tcpOptions, start + 20);
  packet.set(payload, start + header);
  return packet;
}

function layOutUpper(
  view: DataView,
  options: PacketOptions & { upper: Upper; start: number; header: number; length: number },
): void {
  const { upper, start, header, sourcePort = 1111, destinationPort = 2222 } = options;
  if (upper === "icmp") {
    view.setUint8(start, options.version === 6 ? 128 : 8);
    view.setUint16(start + 4, sourcePort);
    view.setUint16(start + 6, options.sequence ?? 1);
    return;
  }
  view.setUint16(start, sourcePort);
  view.setUint16(start + 2, destinationPort);
  if (upper === "udp") {
    view.setUint16(start + 4, options.length & 0xffff);
    return;
  }
  view.setUint32(start + 4, options.sequence ?? 1);
  view.setUint32(start + 8, options.acknowledgement ?? 7);
  view.setUint8(start + 12, header / 4 << 4);
  view.setUint8(start + 13, options.flags ?? ACK);
  view.setUint16(start + 14, options.window ?? 5000);
}

function checksumPlace(packet: Uint8Array): Place | undefined {
  const version = packet[0]! >> 4;
  const start = version === 4 ? (packet[0]! & 15) * 4 : 40;
  const protocol = version === 4 ? packet[9]! : packet[6]!;
  const offset = new Map([[6, 16], [17, 6], [1, 2], [ICMPV6, 2]]).get(protocol);
  return offset === undefined ? undefined : { protocol, start, field: start + offset };
}

/** RFC 793, RFC 768, RFC 8200 §8.1; ICMP for IPv4 has none. */
function pseudoHeader(packet: Uint8Array, { protocol, start }: Place): Uint8Array {
  if (protocol === 1) return new Uint8Array(0);
  const version = packet[0]! >> 4;
  const addresses = version === 4 ? packet.subarray(12, 20) : packet.subarray(8, 40);
  const rest = new Uint8Array(8);
  new DataView(rest.buffer).setUint32(0, packet.length - start);
  rest[7] = protocol;
  return new Uint8Array([...addresses, ...rest]);
}

/** The ones' complement sum of 16-bit words; pieces but the last have even lengths. */
function ones(pieces: readonly Uint8Array[]): number {
  let sum = 0;
  for (const piece of pieces) {
    for (let at = 0; at < piece.length; at += 2) {
      sum += piece[at]! * 256 + (piece[at + 1] ?? 0);
      if (sum > 0xffff) sum -= 0xffff;
    }
  }
  return sum;
}
