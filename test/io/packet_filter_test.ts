/**
 * The programs are run here by a small interpreter of the kernel's packet filter and compared with a naive
 * model; that the kernel itself agrees is shown by the tests of the dialer and the TLS listener.
 */

import assert from "node:assert/strict";
import * as fc from "fast-check";
import type { HostPort } from "../../src/base/address.ts";
import { toHex } from "../../src/base/bytes.ts";
import {
  allowSources,
  encodeFilter,
  type FilterInstruction,
  selectSocket,
} from "../../src/io/packet_filter.ts";

Deno.test("encodeFilter() lays instructions out as the kernel reads them", () => {
  const bytes = encodeFilter([
    { code: 0x15, operand: 0xfff0_000c - 0x1_0000_0000, ifTrue: 1, ifFalse: 2 },
    { code: 0x06, operand: 0xffff_ffff },
  ]);
  assert.equal(toHex(bytes), "150001020c00f0ff" + "06000000ffffffff");
});

Deno.test("selectSocket() answers its index to every packet", () => {
  assert.equal(run(selectSocket(1), packet({ hostname: "127.0.0.1", port: 9 })), 1);
});

Deno.test("allowSources() of nobody drops everything", () => {
  assert.equal(run(allowSources([]), packet({ hostname: "127.0.0.1", port: 4433 })), 0);
});

Deno.test("allowSources() takes exactly address and port, one bit away is dropped", () => {
  const allowed = [{ hostname: "192.0.2.1", port: 4433 }, { hostname: "2001:db8::1", port: 4434 }];
  const program = allowSources(allowed);
  for (const source of allowed) assert.ok(run(program, packet(source)) > 0, source.hostname);
  for (
    const source of [
      { hostname: "192.0.2.1", port: 4434 },
      { hostname: "192.0.2.2", port: 4433 },
      { hostname: "193.0.2.1", port: 4433 },
      { hostname: "2001:db8::1", port: 4433 },
      { hostname: "2001:db8::2", port: 4434 },
      { hostname: "2001:db9::1", port: 4434 },
      { hostname: "2001:db8:0:1::1", port: 4434 },
    ]
  ) {
    assert.equal(run(program, packet(source)), 0, `${source.hostname} ${source.port}`);
  }
});

Deno.test("allowSources() reads every spelling of an IPv6 address", () => {
  for (const hostname of ["2001:DB8:0:0:0:0:0:1", "2001:db8::1", "2001:db8::0.0.0.1", "fe80::1%eth0", "::"]) {
    const source = { hostname: hostname.split("%")[0]!, port: 1 };
    assert.ok(run(allowSources([{ hostname, port: 1 }]), packet(source)) > 0, hostname);
  }
});

Deno.test("allowSources() agrees with a list lookup", () => {
  const host = fc.oneof(fc.ipV4(), fc.ipV6());
  const source = fc.record({ hostname: host, port: fc.integer({ min: 0, max: 65_535 }) });
  fc.assert(fc.property(fc.array(source, { maxLength: 64 }), source, fc.nat(), (allowed, stranger, pick) => {
    const program = allowSources(allowed);
    const known = allowed[pick % Math.max(1, allowed.length)];
    if (known !== undefined) assert.ok(run(program, packet(known)) > 0);
    const expected = allowed.some((entry) => toHex(packet(entry)) === toHex(packet(stranger)));
    assert.equal(run(program, packet(stranger)) > 0, expected);
  }));
});

/** IP header, then UDP header: all that the programs look at. */
function packet({ hostname, port }: HostPort): Uint8Array {
  const v4 = !hostname.includes(":");
  const bytes = new Uint8Array((v4 ? 20 : 40) + 8);
  bytes[0] = v4 ? 0x45 : 0x60;
  bytes.set(v4 ? hostname.split(".").map(Number) : ipv6Bytes(hostname), v4 ? 12 : 8);
  new DataView(bytes.buffer).setUint16(v4 ? 20 : 40, port);
  return bytes;
}

function ipv6Bytes(hostname: string): number[] {
  const [head = "", tail] = new URL(`http://[${hostname}]`).hostname.slice(1, -1).split("::");
  const groups = (part: string) => part === "" ? [] : part.split(":");
  const right = groups(tail ?? "");
  const left = groups(head);
  const middle = new Array(8 - left.length - right.length).fill("0");
  return [...left, ...middle, ...right].flatMap((group) => {
    const value = Number.parseInt(group, 16);
    return [value >> 8, value & 0xff];
  });
}

/** Runs a program on a packet whose data begins at the UDP header, as on a UDP socket. */
function run(program: readonly FilterInstruction[], bytes: Uint8Array): number {
  const view = new DataView(bytes.buffer);
  const data = bytes[0] === 0x45 ? 20 : 40;
  let accumulator = 0;
  for (let pc = 0; pc < program.length; pc++) {
    const { code, operand, ifTrue = 0, ifFalse = 0 } = program[pc]!;
    const offset = operand < 0 ? operand + 0x10_0000 : data + operand;
    // The kernel drops a packet that is too short for a load.
    const inside = (size: number) => offset + size <= bytes.length;
    if (code === 0x20) {
      if (!inside(4)) return 0;
      accumulator = view.getUint32(offset);
    } else if (code === 0x28) accumulator = view.getUint16(offset);
    else if (code === 0x30) accumulator = view.getUint8(offset);
    else if (code === 0x74) accumulator >>>= operand;
    else if (code === 0x15) pc += accumulator === operand ? ifTrue : ifFalse;
    else if (code === 0x06) return operand;
    else assert.fail(`opcode ${code}`);
  }
  assert.fail("the program ends without an answer");
}
