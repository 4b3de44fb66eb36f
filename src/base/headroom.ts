/**
 * Buffers whose owner lets a writer overwrite the bytes in front of a view, so that each layer can put its
 * frame header there without copying. A buffer that is not marked here is never touched outside the view.
 */

import { HEADROOM } from "./channel.ts";

const MARKED = new WeakSet<ArrayBufferLike>();

/**
 * Returns `length` zero bytes with {@linkcode HEADROOM} free bytes in front of them, in a marked buffer: while
 * a view of it is being written, nothing in front of that view may matter to anybody.
 */
export function allocateWithHeadroom(length: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(new ArrayBuffer(HEADROOM + length), HEADROOM);
  MARKED.add(bytes.buffer);
  return bytes;
}

/** Marks a buffer again whose memory moved to a new object, as a transfer does. */
export function markHeadroom(buffer: ArrayBuffer): void {
  MARKED.add(buffer);
}

/** Returns `bytes` widened by `size` bytes at its front for the caller to fill, or `undefined` if it may not. */
export function widenIntoHeadroom(bytes: Uint8Array, size: number): Uint8Array | undefined {
  if (bytes.byteOffset < size || !MARKED.has(bytes.buffer)) return undefined;
  return new Uint8Array(bytes.buffer, bytes.byteOffset - size, size + bytes.length);
}
