/**
 * A command's input and output on the real process.
 */

import { utf8 } from "../base/bytes.ts";
import type { CommandIo } from "./ca.ts";

/** Prints to the process's standard output and error. */
export function processIo(): CommandIo {
  return {
    stdout: (text) => print(Deno.stdout, text),
    stderr: (text) => print(Deno.stderr, text),
    isTerminal: Deno.stdout.isTerminal(),
  };
}

function print(stream: typeof Deno.stdout, text: string): void {
  const bytes = utf8(text);
  try {
    for (let offset = 0; offset < bytes.length;) offset += stream.writeSync(bytes.subarray(offset));
  } catch (error) {
    // The reader, such as `head`, has seen enough.
    if (!(error instanceof Deno.errors.BrokenPipe)) throw error;
  }
}
