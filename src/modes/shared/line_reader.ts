/**
 * Splits a byte stream into lines, each bounded.
 */

import { concat } from "../../base/bytes.ts";
import { GinnelError } from "../../base/errors.ts";

/** Longest line in bytes: a signed view of 10,000 services with a few connectors each fits. */
const MAX_LINE = 4 * 1024 * 1024;

const NEWLINE = 0x0a;

/** Cuts lines out of chunks. */
export class LineReader {
  #parts: Uint8Array[] = [];
  #length = 0;

  /** Takes a chunk and returns the lines it completes, without their newline. */
  push(chunk: Uint8Array): Uint8Array[] {
    const lines: Uint8Array[] = [];
    let start = 0;
    for (let end = chunk.indexOf(NEWLINE); end >= 0; end = chunk.indexOf(NEWLINE, start)) {
      this.#keep(chunk.slice(start, end));
      lines.push(concat(this.#parts));
      this.#parts = [];
      this.#length = 0;
      start = end + 1;
    }
    if (start < chunk.length) this.#keep(chunk.slice(start));
    return lines;
  }

  #keep(part: Uint8Array): void {
    this.#length += part.length;
    if (this.#length > MAX_LINE) {
      throw new GinnelError("ERR_LINE_TOO_LONG", `A line is longer than ${MAX_LINE} bytes`);
    }
    this.#parts.push(part);
  }
}
