/** Looks names up as this machine's programs do, for `ginnel doctor`. */

import { lookup } from "node:dns/promises";
import { withSignal } from "../../base/async.ts";

/** Milliseconds that the machine's resolver may take. */
const TIMEOUT = 3_000;

/** The addresses that programs get for a name; rejects when the machine's resolver knows none. */
export async function probeName(name: string): Promise<readonly string[]> {
  const found = await withSignal(lookup(name, { all: true }), AbortSignal.timeout(TIMEOUT));
  return found.map(({ address }) => address);
}
