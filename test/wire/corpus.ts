/**
 * What every decoder test shares: the committed corpus of a decoder, and the rule that peer bytes can only
 * ever cause a declared error.
 */
import assert from "node:assert/strict";
import { fromHex } from "../../src/base/bytes.ts";
import { GinnelError } from "../../src/base/errors.ts";

const CORPUS = new URL("../fuzz/corpus/", import.meta.url);

/** The inputs committed for `decoder`: one file per input, hexadecimal text, named after what it is. */
export function readCorpus(decoder: string): ReadonlyMap<string, Uint8Array<ArrayBuffer>> {
  const folder = new URL(`${decoder}/`, CORPUS);
  const inputs = new Map<string, Uint8Array<ArrayBuffer>>();
  for (const entry of Deno.readDirSync(folder)) {
    inputs.set(entry.name, fromHex(Deno.readTextFileSync(new URL(entry.name, folder))));
  }
  assert.ok(inputs.size > 0, `the corpus of ${decoder} is empty`);
  return inputs;
}

/** Runs `decode`; anything it throws must be a domain error with a code in `codes`. */
export function assertDeclaredErrors(codes: readonly string[], decode: () => void): void {
  try {
    decode();
  } catch (error) {
    if (error instanceof GinnelError && codes.includes(error.code)) return;
    throw error;
  }
}

/** Reads a vector file. */
export function readVectors<T>(path: string): { readonly source: string; readonly vectors: readonly T[] } {
  return JSON.parse(Deno.readTextFileSync(new URL(`../vectors/${path}`, import.meta.url)));
}
