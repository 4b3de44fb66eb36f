/**
 * Programs for the kernel's classic packet filter, which runs before a packet reaches our socket:
 *
 *   instruction = | opcode (16 bits) | jump if true (8) | jump if false (8) | operand (32) |  host byte order
 */

import { isIPv4 } from "node:net";
import type { HostPort } from "../base/address.ts";

/** One instruction; jumps count the instructions to skip. */
export interface FilterInstruction {
  readonly code: number;
  readonly operand: number;
  readonly ifTrue?: number;
  readonly ifFalse?: number;
}

/** Bytes of one instruction. */
const INSTRUCTION_SIZE = 8;

/** Lays a program out as the kernel reads it. */
export function encodeFilter(program: readonly FilterInstruction[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(program.length * INSTRUCTION_SIZE);
  const view = new DataView(bytes.buffer);
  program.forEach(({ code, operand, ifTrue = 0, ifFalse = 0 }, index) => {
    const offset = index * INSTRUCTION_SIZE;
    view.setUint16(offset, code, true);
    view.setUint8(offset + 2, ifTrue);
    view.setUint8(offset + 3, ifFalse);
    view.setUint32(offset + 4, operand >>> 0, true);
  });
  return bytes;
}

/** Chooses the socket of this index among those that share a port. */
export function selectSocket(index: number): FilterInstruction[] {
  return [{ code: RETURN, operand: index }];
}

/**
 * Lets only UDP datagrams in that come from one of `sources`; the rest is dropped without an answer. Hosts are
 * IP addresses.
 */
export function allowSources(sources: readonly HostPort[]): FilterInstruction[] {
  return [...sources.flatMap(allowSource), { code: RETURN, operand: DROP }];
}

const LOAD_WORD = 0x20;
const LOAD_HALF = 0x28;
const LOAD_BYTE = 0x30;
const SHIFT_RIGHT = 0x74;
const JUMP_IF_EQUAL = 0x15;
const RETURN = 0x06;

const DROP = 0;
const WHOLE_PACKET = 0xffff_ffff;

/** Added to an offset it counts from the IP header instead of the UDP header. */
const FROM_IP_HEADER = -0x10_0000;
const IPV4_SOURCE = 12;
const IPV6_SOURCE = 8;

/** Falls through to the instruction behind it when the packet comes from elsewhere. */
function allowSource({ hostname, port }: HostPort): FilterInstruction[] {
  const version = isIPv4(hostname) ? 4 : 6;
  const words = version === 4 ? [ipv4Word(hostname)] : ipv6Words(hostname);
  const start = version === 4 ? IPV4_SOURCE : IPV6_SOURCE;
  const checks: { readonly load: FilterInstruction[]; readonly value: number }[] = [
    {
      load: [{ code: LOAD_BYTE, operand: FROM_IP_HEADER }, { code: SHIFT_RIGHT, operand: 4 }],
      value: version,
    },
    ...words.map((value, index) => ({
      load: [{ code: LOAD_WORD, operand: FROM_IP_HEADER + start + 4 * index }],
      value,
    })),
    { load: [{ code: LOAD_HALF, operand: 0 }], value: port },
  ];
  let left = checks.reduce((sum, { load }) => sum + load.length + 1, 0) + 1;
  const program: FilterInstruction[] = [];
  for (const { load, value } of checks) {
    left -= load.length + 1;
    program.push(...load, { code: JUMP_IF_EQUAL, operand: value, ifFalse: left });
  }
  program.push({ code: RETURN, operand: WHOLE_PACKET });
  return program;
}

function ipv4Word(address: string): number {
  return address.split(".").reduce((word, part) => word * 256 + Number(part), 0);
}

/** Reads any spelling of an IPv6 address; a zone is not part of it. */
function ipv6Words(address: string): number[] {
  const canonical = new URL(`http://[${address.split("%")[0]}]/`).hostname.slice(1, -1);
  const [head = "", tail] = canonical.split("::");
  const left = head === "" ? [] : head.split(":");
  const right = tail === undefined || tail === "" ? [] : tail.split(":");
  const groups = [...left, ...new Array(8 - left.length - right.length).fill("0"), ...right]
    .map((group) => Number.parseInt(group, 16));
  return [0, 2, 4, 6].map((index) => (groups[index] as number) * 65_536 + (groups[index + 1] as number));
}
