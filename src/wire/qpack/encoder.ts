/**
 * QPACK encoding (RFC 9204 §4.5) with the static table and literals only: nothing refers to a dynamic table,
 * so a field section never waits for another stream and reveals nothing about earlier ones.
 */
import { huffmanSize, writeHuffman } from "./huffman.ts";
import { MAX_PREFIX_INT_SIZE, type PrefixBits, writePrefixInt } from "./prefix_int.ts";
import { type Field, staticFieldIndex, staticNameIndex } from "./static_table.ts";

/** Required Insert Count 0, Delta Base 0. */
const SECTION_PREFIX_SIZE = 2;

const INDEXED_STATIC = 0b1100_0000;
const LITERAL_STATIC_NAME = 0b0101_0000;
const LITERAL_NAME = 0b0010_0000;

/** Fields whose values no hop may ever put into a dynamic table. */
const SECRET_NAMES: ReadonlySet<string> = new Set(["authorization", "proxy-authorization"]);

/** Encodes fields in order; throws `TypeError` where a name or value holds a code unit above 255. */
export function encodeFieldSection(fields: readonly Field[]): Uint8Array<ArrayBuffer> {
  let room = SECTION_PREFIX_SIZE;
  for (const [name, value] of fields) room += name.length + value.length + 2 * MAX_PREFIX_INT_SIZE;
  const target = new Uint8Array(room);
  let offset = SECTION_PREFIX_SIZE;
  for (const field of fields) offset = writeField(target, offset, field);
  return target.subarray(0, offset);
}

function writeField(target: Uint8Array, offset: number, [name, value]: Field): number {
  const index = staticFieldIndex(name, value);
  if (index >= 0) return writePrefixInt(target, offset, { value: index, bits: 6, flags: INDEXED_STATIC });

  const secret = SECRET_NAMES.has(name);
  const nameIndex = staticNameIndex(name);
  if (nameIndex >= 0) {
    const flags = LITERAL_STATIC_NAME | (secret ? 0b0010_0000 : 0);
    offset = writePrefixInt(target, offset, { value: nameIndex, bits: 4, flags });
  } else {
    offset = writeString(target, offset, {
      text: name,
      bits: 3,
      flags: LITERAL_NAME | (secret ? 0b0001_0000 : 0),
    });
  }
  return writeString(target, offset, { text: value, bits: 7, flags: 0 });
}

/** The Huffman flag is the bit above the length's prefix (RFC 9204 §4.1.2). */
function writeString(
  target: Uint8Array,
  offset: number,
  { text, bits, flags }: { readonly text: string; readonly bits: PrefixBits; readonly flags: number },
): number {
  for (let i = 0; i < text.length; i++) {
    if (text.charCodeAt(i) > 0xff) {
      throw new TypeError(`Cannot encode field: character ${i} of ${JSON.stringify(text)} is not a byte`);
    }
  }
  const size = huffmanSize(text);
  if (size < text.length) {
    offset = writePrefixInt(target, offset, { value: size, bits, flags: flags | (1 << bits) });
    return writeHuffman(target, offset, text);
  }
  offset = writePrefixInt(target, offset, { value: text.length, bits, flags });
  for (let i = 0; i < text.length; i++) target[offset++] = text.charCodeAt(i);
  return offset;
}
