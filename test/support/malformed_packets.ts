/** Packets that are broken, or whole and never to be forwarded: one kind each, so that a test can send them all. */

import { writeIpv4Checksum } from "../../src/wire/packet/checksum.ts";
import { packet, type PacketInit, tcp, udp } from "../dataplane/tunnel/packets.ts";
import { patternBytes } from "./tunnel_internet.ts";

/** From whom they say they are, and to whom: addresses of both families. */
export interface Ends {
  readonly source: readonly [ipv4: string, ipv6: string];
  readonly destination: readonly [ipv4: string, ipv6: string];
}

/** All kinds, in turns, until there are `count` packets. None may ever reach `destination`, where a policy denies it. */
export function malformedPackets(ends: Ends, count: number): Uint8Array<ArrayBuffer>[] {
  const packets: Uint8Array<ArrayBuffer>[] = [];
  for (let number = 0; packets.length < count; number++) {
    packets.push(...KINDS.map((kind) => kind(ends, number)));
  }
  return packets.slice(0, count);
}

type Kind = (ends: Ends, number: number) => Uint8Array<ArrayBuffer>;

const KINDS: readonly Kind[] = [
  // No IP packet.
  () => new Uint8Array(0),
  (_ends, number) => new Uint8Array([number & 255]),
  (_ends, number) => noise(number),
  (_ends, number) => changed(noise(number), 0, number % 2 === 0 ? 0x55 : 0xf5),
  // IPv4 headers that lie.
  (ends, number) => v4(ends, number).slice(0, number % 28),
  (ends, number) => resealed(changed(v4(ends, number), 0, 0x40 | number % 5)),
  (ends, number) => changed(v4(ends, number), 0, 0x4f),
  (ends, number) => resealed(changed(v4(ends, number), 3, 200 + number % 50)),
  (ends, number) => resealed(changed(v4(ends, number), 3, number % 28)),
  (ends, number) => changed(v4(ends, number), 10, number),
  (ends) => withOptions(ends, [131, 7, 4, 10, 100, 0, 1, 0]),
  (ends) => withOptions(ends, [7, 0, 0, 0]),
  // Fragments of nothing, and one that would end beyond the largest packet.
  (ends, number) => v4(ends, number, { fragmentOffset: 8 * (number % 100 + 1), id: number }),
  (ends, number) => v4(ends, number, { fragmentOffset: 65_528, moreFragments: true, id: number }),
  // Hops used up, headers of upper layers cut off, protocols that nobody asked for.
  (ends, number) => v4(ends, number, { ttl: 0 }),
  (ends, number) => v4(ends, number, { protocol: 6, payload: noise(number).slice(0, number % 20) }),
  (ends, number) => v4(ends, number, { protocol: 1, payload: noise(number).slice(0, number % 8) }),
  (ends, number) => v4(ends, number, { protocol: number % 256, payload: noise(number) }),
  // IPv6: cut, of a length that is not its own, with endless or torn extension headers, a jumbogram.
  (ends, number) => v6(ends, number).slice(0, number % 48),
  (ends, number) => changed(v6(ends, number), 5, number % 256),
  (ends) => withExtensions(ends, 64),
  (ends, number) => v6(ends, number, { protocol: 0, payload: Uint8Array.of(17, 255, 0, 0, 0, 0, 0, 0) }),
  (ends, number) =>
    v6(ends, number, { protocol: 44, payload: Uint8Array.of(17, 0, 0xff, 0xf9, 0, 0, 0, number) }),
  (ends, number) => changed(changed(v6(ends, number), 4, 0), 5, 0),
  // To and from groups and nobody.
  ({ source }) => udp({ src: source[0], dst: "224.0.0.251" }),
  ({ source }) => udp({ src: source[1], dst: "ff02::fb" }),
  ({ source }) => tcp({ src: source[0], dst: source[0], flags: 2 }),
  ({ destination }) => udp({ src: "255.255.255.255", dst: destination[0] }),
];

function v4(
  { source, destination }: Ends,
  number: number,
  more: Partial<PacketInit> = {},
): Uint8Array<ArrayBuffer> {
  return whole({ src: source[0], dst: destination[0], ...more }, number);
}

function v6(
  { source, destination }: Ends,
  number: number,
  more: Partial<PacketInit> = {},
): Uint8Array<ArrayBuffer> {
  return whole({ src: source[1], dst: destination[1], ...more }, number);
}

function whole(init: PacketInit, number: number): Uint8Array<ArrayBuffer> {
  const { protocol, payload } = init;
  return protocol === undefined && payload === undefined
    ? udp({ ...init, srcPort: 1_024 + number % 60_000 })
    : packet(init);
}

function changed(bytes: Uint8Array<ArrayBuffer>, offset: number, value: number): Uint8Array<ArrayBuffer> {
  bytes[offset] = value;
  return bytes;
}

function resealed(bytes: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  if ((bytes[0]! & 0x0f) * 4 <= bytes.length) writeIpv4Checksum(bytes, 0);
  return bytes;
}

function withOptions(ends: Ends, options: readonly number[]): Uint8Array<ArrayBuffer> {
  const bare = v4(ends, 0);
  const bytes = new Uint8Array([...bare.subarray(0, 20), ...options, ...bare.subarray(20)]);
  bytes[0] = 0x45 + options.length / 4;
  bytes[3] = bytes.length;
  return resealed(bytes);
}

function withExtensions({ source, destination }: Ends, count: number): Uint8Array<ArrayBuffer> {
  const payload = new Uint8Array(8 * count);
  for (let i = 0; i < count; i++) payload[8 * i] = 60;
  return packet({ src: source[1], dst: destination[1], protocol: 60, payload });
}

function noise(number: number): Uint8Array<ArrayBuffer> {
  return patternBytes(1_100).slice(number * 7 % 1_000);
}
