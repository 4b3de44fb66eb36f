/** The lease file as an operator's command sees it: to list what it holds, and to end a lease, while a relay runs or not. */

import type { Lease } from "../core/ipam.ts";
import { applyRecords, formatRecord, parseRecords } from "./lease_records.ts";
import { LockedFile, lookAt, readUnlocked } from "./locked_file.ts";

/** Reads the leases of a file; none when there is no file. */
export async function readStoredLeases(path: string): Promise<Lease[]> {
  return [...fold(await readUnlocked(path)).values()];
}

/** Ends a lease. A relay that runs hears of it and ends the session. Returns the lease; `undefined`: there was none. */
export async function releaseStoredLease(path: string, identity: string): Promise<Lease | undefined> {
  if (await lookAt(path) === undefined) return undefined;
  using file = await LockedFile.open(path);
  const lease = fold(await file.read()).get(identity);
  if (lease !== undefined) await file.append(formatRecord({ op: "release", identity }));
  return lease;
}

function fold(text: string): Map<string, Lease> {
  const leases = new Map<string, Lease>();
  applyRecords(leases, parseRecords(text).records);
  return leases;
}
