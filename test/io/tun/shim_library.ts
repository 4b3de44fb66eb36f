/** The pure halves of `shim.c` on memory: cutting a frame to packets, joining packets to frames. */

import { buildShim } from "../../../src/io/tun/build_shim.ts";

const ROOT = new URL("../../..", import.meta.url).pathname;
const SYMBOLS = {
  tun_segment: {
    parameters: ["buffer", "u32", "buffer", "buffer", "u32", "buffer", "buffer", "u32"],
    result: "i32",
  },
  tun_coalesce: {
    parameters: ["buffer", "u32", "buffer", "buffer", "u32", "buffer", "u32", "buffer", "buffer", "u32"],
    result: "i32",
  },
} as const;

/** What `segment()` made: packets, or a negative errno, and where to go on (DONE: nowhere). */
export interface Cut {
  readonly packets: readonly Uint8Array[];
  readonly result: number;
  readonly next: number;
}

/** What `next` is when nothing is left. */
export const DONE = 0xffffffff;

/** The library, opened for tests. */
export class ShimLibrary implements Disposable {
  readonly #library: Deno.DynamicLibrary<typeof SYMBOLS>;

  constructor() {
    const source = `${ROOT}src/io/tun/shim.c`;
    this.#library = Deno.dlopen(buildShim({ source, cache: `${ROOT}.cache/tun` }).path, SYMBOLS);
  }

  /** Cuts `frame`; bytes beyond `size` are watched: a write there throws. */
  segment(
    frame: Uint8Array<ArrayBuffer>,
    { next = 0, size = 1 << 18, max = 1_024 }: { next?: number; size?: number; max?: number } = {},
  ): Cut {
    const out = new Guarded(size);
    const starts = new Uint32Array(max), ends = new Uint32Array(max);
    const cursor = new Uint32Array([next]);
    const given = frame.slice();
    const result = this.#library.symbols
      .tun_segment(given, given.length, cursor, out.bytes, size, starts, ends, max);
    out.check();
    const packets = slices(out.bytes, { starts, ends, count: result });
    return { packets, result, next: cursor[0]! };
  }

  /** Joins `packets`, laid out one behind the other; returns the frames. */
  coalesce(packets: readonly Uint8Array[], { size = 1 << 21 }: { size?: number } = {}): Uint8Array[] {
    const bytes = new Uint8Array(packets.reduce((sum, packet) => sum + packet.length, 0));
    const starts = new Uint32Array(packets.length), ends = new Uint32Array(packets.length);
    let at = 0;
    for (const [index, packet] of packets.entries()) {
      bytes.set(packet, at);
      starts[index] = at;
      ends[index] = at += packet.length;
    }
    const { frames, result } = this.coalesceRaw({ bytes, starts, ends }, { size });
    if (result < 0) throw new Error(`Packets were refused: ${result}`);
    return frames;
  }

  /** Joins whatever `starts` and `ends` say. */
  coalesceRaw(
    { bytes, starts, ends }: {
      bytes: Uint8Array<ArrayBuffer>;
      starts: Uint32Array<ArrayBuffer>;
      ends: Uint32Array<ArrayBuffer>;
    },
    { size = 1 << 21 }: { size?: number } = {},
  ): { result: number; frames: Uint8Array[] } {
    const out = new Guarded(size);
    const frameStarts = new Uint32Array(starts.length), frameEnds = new Uint32Array(starts.length);
    const result = this.#library.symbols.tun_coalesce(
      bytes,
      bytes.length,
      starts,
      ends,
      starts.length,
      out.bytes,
      size,
      frameStarts,
      frameEnds,
      starts.length,
    );
    out.check();
    return { result, frames: slices(out.bytes, { starts: frameStarts, ends: frameEnds, count: result }) };
  }

  [Symbol.dispose](): void {
    this.#library.close();
  }
}

/** Memory with a strip of known bytes behind it. */
class Guarded {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly #size: number;

  constructor(size: number) {
    this.#size = size;
    this.bytes = new Uint8Array(size + 4_096).fill(0xa5, size);
  }

  check(): void {
    if (this.bytes.subarray(this.#size).some((byte) => byte !== 0xa5)) throw new Error("Wrote past the end");
  }
}

function slices(
  bytes: Uint8Array,
  { starts, ends, count }: { starts: Uint32Array; ends: Uint32Array; count: number },
): Uint8Array[] {
  return Array.from({ length: Math.max(count, 0) }, (_, index) => bytes.slice(starts[index], ends[index]));
}
