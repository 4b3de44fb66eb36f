/**
 * QUIC variable-length integers (RFC 9000 §16): the top two bits of the first byte say how many bytes
 * the number takes, the rest is the number in network byte order.
 *
 *   00xxxxxx  1 byte   0 … 63              01xxxxxx  2 bytes  … 16 383
 *   10xxxxxx  4 bytes  … 1 073 741 823     11xxxxxx  8 bytes  … 2^62 - 1
 */

/** The largest number the format can carry. */
export const MAX_VARINT = 2n ** 62n - 1n;

/** How many bytes a number can take. */
export type VarintSize = 1 | 2 | 4 | 8;

/** Returns the fewest bytes that hold `value`; throws `RangeError` unless it is a safe integer >= 0. */
export function varintSize(value: number): VarintSize {
  if (value >= 0 && Number.isSafeInteger(value)) {
    if (value < 0x40) return 1;
    if (value < 0x4000) return 2;
    if (value < 0x4000_0000) return 4;
    return 8;
  }
  throw new RangeError(`Cannot encode varint: expected an integer from 0 to 2^53-1, got ${value}`);
}

/** Returns how many bytes the number that starts with `firstByte` takes. */
export function varintLength(firstByte: number): VarintSize {
  return (1 << (firstByte >> 6)) as VarintSize;
}

/** Writes `value` in its shortest form and returns the offset behind it; the caller made room. */
export function writeVarint(target: Uint8Array, offset: number, value: number): number {
  const size = varintSize(value);
  checkRoom(target, offset, size);
  switch (size) {
    case 1:
      target[offset] = value;
      break;
    case 2:
      target[offset] = 0x40 | (value >> 8);
      target[offset + 1] = value;
      break;
    case 4:
      writeUint32(target, offset, 0x8000_0000 + value);
      break;
    case 8:
      writeUint32(target, offset, 0xc000_0000 + Math.floor(value / 0x1_0000_0000));
      writeUint32(target, offset + 4, value);
      break;
  }
  return offset + size;
}

/**
 * Reads the number at `offset`; the caller checked that all its bytes are there. Above 2^53-1 the result
 * is the nearest double: fit to be refused or echoed in a log, never to be computed with.
 */
export function readVarint(source: Uint8Array, offset: number): number {
  const first = source[offset] as number;
  switch (first >> 6) {
    case 0:
      return first;
    case 1:
      return ((first & 0x3f) << 8) | (source[offset + 1] as number);
    case 2:
      return readUint32(source, offset) - 0x8000_0000;
    default:
      return (readUint32(source, offset) - 0xc000_0000) * 0x1_0000_0000 + readUint32(source, offset + 4);
  }
}

/** Returns `value` in its shortest form. */
export function encodeVarint(value: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(varintSize(value));
  writeVarint(bytes, 0, value);
  return bytes;
}

/** Reads the number at `offset` exactly; the caller checked that all its bytes are there. */
export function readVarintBig(source: Uint8Array, offset: number): bigint {
  if (varintLength(source[offset] as number) < 8) return BigInt(readVarint(source, offset));
  const high = BigInt(readUint32(source, offset) - 0xc000_0000);
  return (high << 32n) | BigInt(readUint32(source, offset + 4));
}

/** Writes any number up to {@linkcode MAX_VARINT} in its shortest form and returns the offset behind it. */
export function writeVarintBig(target: Uint8Array, offset: number, value: bigint): number {
  if (value <= BigInt(Number.MAX_SAFE_INTEGER)) return writeVarint(target, offset, Number(value));
  if (value > MAX_VARINT) {
    throw new RangeError(`Cannot encode varint: expected at most 2^62-1, got ${value}`);
  }
  checkRoom(target, offset, 8);
  writeUint32(target, offset, 0xc000_0000 + Number(value >> 32n));
  writeUint32(target, offset + 4, Number(value & 0xffff_ffffn));
  return offset + 8;
}

function checkRoom(target: Uint8Array, offset: number, size: number): void {
  if (offset + size > target.length) {
    throw new RangeError(`Cannot write varint: ${size} bytes at offset ${offset} of ${target.length}`);
  }
}

function readUint32(source: Uint8Array, offset: number): number {
  return (((source[offset] as number) << 24) | ((source[offset + 1] as number) << 16) |
    ((source[offset + 2] as number) << 8) | (source[offset + 3] as number)) >>> 0;
}

function writeUint32(target: Uint8Array, offset: number, value: number): void {
  // Byte stores keep the low 8 bits; the shifts reduce modulo 2^32 first, which is what the low half needs.
  target[offset] = value >>> 24;
  target[offset + 1] = value >>> 16;
  target[offset + 2] = value >>> 8;
  target[offset + 3] = value;
}
