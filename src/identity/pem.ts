/**
 * PEM: text armour for DER certificates and keys, read strictly.
 */

import { IdentityError } from "./errors.ts";

/** Armour labels in use. */
export type PemLabel = "CERTIFICATE" | "CERTIFICATE REQUEST" | "PRIVATE KEY";

const BASE64 = /^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/;

/** Wraps DER bytes in PEM armour. */
export function encodePem(label: PemLabel, der: Uint8Array): string {
  const lines = encodeBase64(der).match(/.{1,64}/g) ?? [];
  return `-----BEGIN ${label}-----\n${lines.join("\n")}\n-----END ${label}-----\n`;
}

/** Returns the DER bytes of every block; anything between or around the blocks but white space is refused. */
export function decodePem(label: PemLabel, text: string): Uint8Array<ArrayBuffer>[] {
  const begin = `-----BEGIN ${label}-----`;
  const end = `-----END ${label}-----`;
  const blocks: Uint8Array<ArrayBuffer>[] = [];
  let rest = text.trim();
  while (rest !== "") {
    const stop = rest.indexOf(end);
    if (!rest.startsWith(begin) || stop < 0) throw malformed(label);
    blocks.push(decodeBase64(rest.slice(begin.length, stop).replace(/\s+/g, "")));
    rest = rest.slice(stop + end.length).trim();
  }
  if (blocks.length === 0) throw malformed(label);
  return blocks;
}

/** Tells whether these bytes are one DER sequence and nothing behind it, by the lengths that certificates have. */
export function isOneDerSequence(bytes: Uint8Array): boolean {
  const [tag, length = 0, high = 0, low = 0] = bytes;
  const declared = length === 0x82 ? 4 + (high << 8) + low : length === 0x81 ? 3 + high : 2 + length;
  return tag === 0x30 && declared === bytes.length;
}

/** Standard base64 with padding. */
export function encodeBase64(bytes: Uint8Array): string {
  let binary = "";
  for (const byte of bytes) binary += String.fromCharCode(byte);
  return btoa(binary);
}

/** Reads standard base64 with padding; throws `ERR_CERT_MALFORMED` on anything else. */
export function decodeBase64(text: string): Uint8Array<ArrayBuffer> {
  if (!BASE64.test(text)) {
    throw new IdentityError("ERR_CERT_MALFORMED", "Cannot read base64: foreign character");
  }
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

function malformed(label: PemLabel): IdentityError {
  return new IdentityError("ERR_CERT_MALFORMED", `Cannot read PEM: expected only ${label} blocks`);
}
