/**
 * A relay's audit spool that never rests, for the crash test: adds numbered facts, prints the number of the last one that is
 * on disk, and reports batches by appending them to a file: FOLDER REPORTS FIRST.
 */

import { SILENT_LOGGER } from "../../src/base/log.ts";
import type { AuditFact } from "../../src/core/network/audit_entry.ts";
import { AuditSpool } from "../../src/store/audit_spool.ts";

/** A fact that stands for a number. */
export function factOf(n: number): AuditFact {
  return {
    time: n,
    event: "connect",
    who: "spiffe://t/agent/alice",
    target: "web",
    outcome: "open",
    detail: { n, flow: "f".repeat(n % 300) },
    source: "spiffe://t/relay/r",
  };
}

/** A batch as the other side keeps it. */
export interface Reported {
  readonly id: string;
  readonly numbers: readonly number[];
}

/** Reports batches until told to stop. */
async function report(spool: AuditSpool, path: string): Promise<never> {
  using file = await Deno.open(path, { append: true, create: true });
  for (;;) {
    const batch = await spool.next();
    if (batch === undefined) {
      spool.add(factOf(0));
      await spool.flushed();
      continue;
    }
    const reported: Reported = { id: batch.id, numbers: batch.facts.map(({ time }) => time) };
    file.writeSync(new TextEncoder().encode(`${JSON.stringify(reported)}\n`));
    await spool.done(batch);
  }
}

if (import.meta.main) {
  const [folder, reports, first] = Deno.args;
  const spool = await AuditSpool.open(folder!, {
    logger: SILENT_LOGGER,
    source: "spiffe://t/relay/r",
    maxBytes: 8 << 20,
  });
  void report(spool, reports!);
  for (let n = Number(first);;) {
    for (const end = n + 50; n < end; n++) spool.add(factOf(n));
    await spool.flushed();
    console.log(`acknowledged ${n - 1}`);
  }
}
