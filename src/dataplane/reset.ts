/**
 * The content of a RESET record: one byte of reason.
 */

import { RESET_REASONS, type ResetReason } from "./errors.ts";
import type { OpenedRecord } from "./record.ts";

/** Encodes the plaintext of RESET. */
export function encodeReset(reason: ResetReason): Uint8Array<ArrayBuffer> {
  return Uint8Array.of(RESET_REASONS.indexOf(reason));
}

/** Decodes the plaintext of RESET; a reason of a later version reads as "reset". */
export function decodeReset(record: OpenedRecord): ResetReason {
  return RESET_REASONS[record.data[0]!] ?? "reset";
}
