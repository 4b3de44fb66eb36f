/**
 * A relay's journal that never rests, for the crash test: records bursts of leases and releases, and prints the number of the
 * last one that is on disk. What each number stands for is for the test to know too.
 */

import { SILENT_LOGGER } from "../../src/base/log.ts";
import type { Lease } from "../../src/core/ipam.ts";
import { LeaseJournal } from "../../src/store/lease_journal.ts";

/** Records of one burst: one batch, sometimes two. */
export const BURST = 40;

const IDENTITIES = 25;

/** What the n-th record says; its number is when the lease was last seen. */
export function recordOf(n: number): { readonly identity: string; readonly lease: Lease | undefined } {
  // A stride that shares no factor with the number of identities visits them all, in another order each time.
  const which = (n * 7 + Math.floor(n / IDENTITIES)) % IDENTITIES;
  const identity = `spiffe://t/agent/a${which}`;
  if (n % 11 === 0) return { identity, lease: undefined };
  const ipv4 = { version: 4, value: 0x0a000002n + BigInt(which) } as const;
  return { identity, lease: { identity, ipv4, ipv6: null, since: 1, lastSeen: n } };
}

if (import.meta.main) {
  const [path, first] = Deno.args;
  const { journal } = await LeaseJournal.open(path!, { logger: SILENT_LOGGER });
  for (let n = Number(first);;) {
    for (const end = n + BURST; n < end; n++) {
      const { identity, lease } = recordOf(n);
      if (lease === undefined) journal.release(identity);
      else journal.record(lease);
    }
    await journal.flushed();
    console.log(`acknowledged ${n - 1}`);
  }
}
