/** Deadlines that hold the product to its word and not the machine: time spent waiting for a processor does not count. */

import assert from "node:assert/strict";
import { withDeadline } from "../../src/base/async.ts";

/** Milliseconds after which even a machine without any time is waited for no longer. */
const END_MS = 30_000;

/** What else counts. */
export interface WithinOptions {
  /** Process ids that `work` depends on, besides this one. */
  readonly processes?: readonly number[];
}

/**
 * Does `work` and asserts that it took at most `limit` milliseconds, not counting those for which threads of the
 * processes were ready to run and the machine had no processor for them. On a machine that has time, that is none;
 * timers, retries and polls of the product always count in full.
 */
export async function within<T>(
  limit: number,
  work: () => Promise<T>,
  { processes = [] }: WithinOptions = {},
): Promise<T> {
  const waited = () => [Deno.pid, ...processes].reduce((sum, pid) => sum + waitedFor(pid), 0);
  const before = waited();
  const started = performance.now();
  const result = await withDeadline(END_MS, work);
  const elapsed = performance.now() - started;
  const stalled = Math.max(0, waited() - before);
  assert.ok(
    elapsed - stalled <= limit,
    `it took ${Math.round(elapsed)} ms, ${Math.round(stalled)} of them in wait for a processor`,
  );
  return result;
}

/** Milliseconds that all threads of a process have spent ready to run. */
function waitedFor(pid: number): number {
  let nanoseconds = 0;
  for (const { name } of tasksOf(pid)) {
    try {
      nanoseconds += Number(Deno.readTextFileSync(`/proc/${pid}/task/${name}/schedstat`).split(" ")[1] ?? 0);
    } catch {
      // A thread that has just ended, or a kernel that does not count.
    }
  }
  return nanoseconds / 1e6;
}

function tasksOf(pid: number): readonly Deno.DirEntry[] {
  try {
    return [...Deno.readDirSync(`/proc/${pid}/task`)];
  } catch {
    // Killed meanwhile: it waits for nothing any more.
    return [];
  }
}
