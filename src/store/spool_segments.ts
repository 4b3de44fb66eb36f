/**
 * A queue of lines on disk, numbered from 1, in files of limited size named after their first line's number. Lines are
 * appended to the last file; whole files go at the front.
 */

import { join } from "node:path";
import { utf8, utf8Decode } from "../base/bytes.ts";

/** Lines read at once, with the number of the first. */
export interface SpoolLines {
  readonly first: number;
  readonly lines: readonly string[];
}

const MODE = 0o600;
const NEWLINE = 0x0a;
const NAME = /^(\d{16})\.jsonl$/;

/** Bytes looked at together when lines are counted. */
const SCAN = 1 << 20;

interface Segment {
  readonly path: string;
  /** Number of its first line. */
  readonly first: number;
  lines: number;
  /** Bytes of whole lines that are on disk. */
  bytes: number;
}

/** The files of one queue. One process at a time; calls that change or read files must not overlap. */
export class SpoolSegments implements Disposable {
  readonly #folder: string;
  readonly #segments: Segment[];
  #file: Deno.FsFile | undefined;
  /** Where a line begins that is likely read next. */
  #mark = { seq: 0, offset: 0 };

  private constructor(folder: string, segments: Segment[]) {
    this.#folder = folder;
    this.#segments = segments;
  }

  /** Finds the files of earlier runs; a line that a crash tore off is cut away. `next`: number of the first line if empty. */
  static async open(folder: string, options: { readonly next: number }): Promise<SpoolSegments> {
    const segments: Segment[] = [];
    for await (const { name, isFile } of Deno.readDir(folder)) {
      const first = NAME.exec(name)?.[1];
      if (isFile && first !== undefined) {
        segments.push({ path: join(folder, name), first: Number(first), lines: 0, bytes: 0 });
      }
    }
    segments.sort((a, b) => a.first - b.first);
    for (const segment of segments) Object.assign(segment, await countLines(segment.path));
    const spool = new SpoolSegments(folder, segments);
    const last = segments.at(-1);
    if (last !== undefined) await Deno.truncate(last.path, last.bytes);
    // Numbers never come again, whatever was lost of the files.
    if (last === undefined || spool.#end(last) < options.next) spool.#add(options.next);
    return spool;
  }

  /** Number of the next line. */
  get next(): number {
    return this.#end(this.#segments.at(-1)!);
  }

  /** Bytes in all files. */
  get bytes(): number {
    return this.#segments.reduce((sum, { bytes }) => sum + bytes, 0);
  }

  /** How many lines there are from a number on. */
  countFrom(seq: number): number {
    return this.#segments.reduce(
      (sum, segment) => sum + Math.max(0, this.#end(segment) - Math.max(seq, segment.first)),
      0,
    );
  }

  /** Appends lines; when it resolves they are on disk, when it rejects none of them counts. */
  async append(lines: readonly string[], options: { readonly segmentBytes: number }): Promise<void> {
    const bytes = utf8(lines.join(""));
    let last = this.#segments.at(-1)!;
    if (last.bytes > 0 && last.bytes + bytes.length > options.segmentBytes) {
      this.#file?.close();
      this.#file = undefined;
      last = this.#add(this.next);
    }
    this.#file ??= await Deno.open(last.path, { write: true, create: true, mode: MODE });
    // Behind the last whole line, over whatever an attempt before this one left.
    await this.#file.truncate(last.bytes);
    await this.#file.seek(last.bytes, Deno.SeekMode.Start);
    for (let offset = 0; offset < bytes.length;) offset += await this.#file.write(bytes.subarray(offset));
    await this.#file.syncData();
    if (last.bytes === 0) await this.#syncFolder();
    last.bytes += bytes.length;
    last.lines += lines.length;
  }

  /** The first lines from a number on, of one file: at least one when there is any. */
  async read(
    seq: number,
    options: { readonly maxLines: number; readonly maxBytes: number },
  ): Promise<SpoolLines | undefined> {
    const segment = this.#segments.find((candidate) => this.#end(candidate) > seq);
    if (segment === undefined) return undefined;
    const first = Math.max(seq, segment.first);
    using file = await Deno.open(segment.path);
    const start = await this.#find(file, { segment, seq: first });
    for (let size = options.maxBytes;; size *= 2) {
      const bytes = await readAt(file, { start, end: Math.min(segment.bytes, start + size) });
      const lines = splitLines(bytes, options.maxLines);
      if (lines.length === 0 && start + bytes.length < segment.bytes) continue;
      const read = lines.reduce((sum, line) => sum + line.length + 1, 0);
      this.#mark = { seq: first + lines.length, offset: start + read };
      return { first, lines: lines.map(decode) };
    }
  }

  /** Removes the files whose lines are all below a number, except the last one. */
  async removeBelow(seq: number): Promise<void> {
    while (this.#segments.length > 1 && this.#end(this.#segments[0]!) <= seq) await this.#remove(0);
  }

  /**
   * Removes the oldest file that has no line up to `except` and is not the last; returns the numbers of its first line
   * and of the one behind its last.
   */
  async removeOldest(
    options: { readonly except: number },
  ): Promise<{ readonly first: number; readonly next: number } | undefined> {
    const index = this.#segments.findIndex(({ first }) => first > options.except);
    const segment = this.#segments[index];
    if (segment === undefined || index === this.#segments.length - 1) return undefined;
    await this.#remove(index);
    return { first: segment.first, next: this.#end(segment) };
  }

  [Symbol.dispose](): void {
    this.#file?.close();
    this.#file = undefined;
  }

  #end({ first, lines }: Segment): number {
    return first + lines;
  }

  #add(first: number): Segment {
    const path = join(this.#folder, `${String(first).padStart(16, "0")}.jsonl`);
    const segment = { path, first, lines: 0, bytes: 0 };
    this.#segments.push(segment);
    return segment;
  }

  async #remove(index: number): Promise<void> {
    await Deno.remove(this.#segments[index]!.path).catch((error) => {
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    });
    this.#segments.splice(index, 1);
  }

  /** Where a line begins in its file. */
  async #find(
    file: Deno.FsFile,
    { segment, seq }: { readonly segment: Segment; readonly seq: number },
  ): Promise<number> {
    if (this.#mark.seq === seq && seq > segment.first) return this.#mark.offset;
    let left = seq - segment.first;
    for (let offset = 0; left > 0 && offset < segment.bytes; offset += SCAN) {
      const bytes = await readAt(file, { start: offset, end: Math.min(segment.bytes, offset + SCAN) });
      for (let at = bytes.indexOf(NEWLINE); at >= 0; at = bytes.indexOf(NEWLINE, at + 1)) {
        if (--left === 0) return offset + at + 1;
      }
    }
    return 0;
  }

  async #syncFolder(): Promise<void> {
    using folder = await Deno.open(this.#folder);
    await folder.sync();
  }
}

async function countLines(path: string): Promise<{ readonly lines: number; readonly bytes: number }> {
  using file = await Deno.open(path);
  const { size } = await file.stat();
  let lines = 0;
  let whole = 0;
  for (let offset = 0; offset < size; offset += SCAN) {
    const bytes = await readAt(file, { start: offset, end: Math.min(size, offset + SCAN) });
    for (let at = bytes.indexOf(NEWLINE); at >= 0; at = bytes.indexOf(NEWLINE, at + 1)) {
      lines++;
      whole = offset + at + 1;
    }
  }
  return { lines, bytes: whole };
}

async function readAt(
  file: Deno.FsFile,
  { start, end }: { readonly start: number; readonly end: number },
): Promise<Uint8Array> {
  const bytes = new Uint8Array(Math.max(0, end - start));
  await file.seek(start, Deno.SeekMode.Start);
  let length = 0;
  while (length < bytes.length) {
    const count = await file.read(bytes.subarray(length));
    if (count === null) break;
    length += count;
  }
  return bytes.subarray(0, length);
}

/** The first whole lines, without their ends. */
function splitLines(bytes: Uint8Array, max: number): Uint8Array[] {
  const lines: Uint8Array[] = [];
  let start = 0;
  for (let at = bytes.indexOf(NEWLINE); at >= 0 && lines.length < max; at = bytes.indexOf(NEWLINE, start)) {
    lines.push(bytes.subarray(start, at));
    start = at + 1;
  }
  return lines;
}

function decode(line: Uint8Array): string {
  try {
    return utf8Decode(line);
  } catch {
    return "";
  }
}
