/**
 * Names between bytes and text. Text is in lower case, without the final dot; bytes that host names do not have stand
 * as `\DDD`, so that a dot inside of a label cannot pass for the end of one (RFC 1035 §5.1, RFC 4343 §2.1).
 */

/** A name that stands whole in a message. */
export interface DnsName {
  /** See the module; the root is the empty text. */
  readonly text: string;
  /** The offset behind it. */
  readonly end: number;
}

/** RFC 1035 §2.3.4: bytes of a name, lengths included. */
const MAX_NAME = 255;
const MAX_LABEL = 63;
/** Bytes in front of the first name of a message. */
const HEADER = 12;
const MAX_POINTERS = 32;

/** Reads the name at `offset`, where no pointer may stand; `undefined` when it is malformed. */
export function readDnsName(bytes: Uint8Array, offset: number): DnsName | undefined {
  let text = "";
  for (let at = offset;;) {
    const length = bytes[at];
    if (length === undefined) return undefined;
    if (length === 0) return { text, end: at + 1 };
    // One byte is kept for the root behind it.
    const next = at + 1 + length;
    if (length > MAX_LABEL || next - offset >= MAX_NAME || next > bytes.length) return undefined;
    if (at > offset) text += ".";
    for (let i = at + 1; i < next; i++) text += characterOf(bytes[i]!);
    at = next;
  }
}

/**
 * As {@linkcode readDnsName}, where pointers may stand (RFC 1035 §4.1.4): each must lead further to the front than all before
 * it, so that no name is endless, but not into the header.
 */
export function readCompressedName(bytes: Uint8Array, offset: number): DnsName | undefined {
  const labels: string[] = [];
  let end: number | undefined;
  let [at, front, size, pointers] = [offset, offset, 0, 0];
  for (;;) {
    const length = bytes[at];
    if (length === undefined) return undefined;
    if (length >= POINTER) {
      const low = bytes[at + 1];
      const target = (length - POINTER) << 8 | (low ?? 0);
      if (low === undefined || target >= front || target < HEADER) return undefined;
      if (++pointers > MAX_POINTERS) return undefined;
      end ??= at + 2;
      at = front = target;
      continue;
    }
    if (length === 0) return { text: labels.join("."), end: end ?? at + 1 };
    const next = at + 1 + length;
    size += 1 + length;
    if (length > MAX_LABEL || size >= MAX_NAME || next > bytes.length) return undefined;
    let label = "";
    for (let i = at + 1; i < next; i++) label += characterOf(bytes[i]!);
    labels.push(label);
    at = next;
  }
}

/** Writes a host name's bytes; `undefined` where its text is not one of at most 255 bytes with labels of 1 to 63. */
export function writeDnsName(text: string): Uint8Array<ArrayBuffer> | undefined {
  if (text === "") return new Uint8Array(1);
  if (text.length + 2 > MAX_NAME) return undefined;
  const bytes = new Uint8Array(text.length + 2);
  let length = 0;
  for (let i = text.length; i >= 0; i--) {
    const code = i === 0 ? DOT : text.charCodeAt(i - 1);
    if (code !== DOT) {
      if (code > 0x7e || code <= 0x20 || code === BACKSLASH) return undefined;
      bytes[i] = code;
      length++;
      continue;
    }
    if (length < 1 || length > MAX_LABEL) return undefined;
    bytes[i] = length;
    length = 0;
  }
  return bytes;
}

/** The first two bits of a pointer. */
const POINTER = 0xc0;
const DOT = 0x2e;
const BACKSLASH = 0x5c;

function characterOf(byte: number): string {
  if (byte >= 0x41 && byte <= 0x5a) return String.fromCharCode(byte + 0x20);
  const isHost = (byte >= 0x61 && byte <= 0x7a) || (byte >= 0x30 && byte <= 0x39) || byte === 0x2d ||
    byte === 0x5f;
  return isHost ? String.fromCharCode(byte) : `\\${String(byte).padStart(3, "0")}`;
}
