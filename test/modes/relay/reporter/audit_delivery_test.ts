/** Audit facts of a relay that is killed, over HTTPS, into the audit log of a real controller that goes away meanwhile. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { SILENT_LOGGER } from "../../../../src/base/log.ts";
import type { ControllerLink } from "../../../../src/control/sync/link.ts";
import { verifyChain } from "../../../../src/core/audit/chain.ts";
import type { AuditEntry } from "../../../../src/core/network/audit_entry.ts";
import { RelayReporter } from "../../../../src/modes/relay/reporter/relay_reporter.ts";
import { SessionLedger } from "../../../../src/modes/relay/reporter/session_ledger.ts";
import { AuditSpool } from "../../../../src/store/audit_spool.ts";
import { RELAY, SyncGround } from "../../../control/sync/sync_ground.ts";
import { eventually } from "../../../support/eventually.ts";

Deno.test("what a relay saw is in the controller's audit log once, though answers, relay and controller went away", async () => {
  await using ground = await SyncGround.open();
  const link = await ground.remoteLink();
  const folder = await Deno.makeTempDir();
  const first = await open(folder, {
    // The controller takes the report, and the relay never hears of it.
    report: async (report) => {
      await link.report(report);
      throw new Error("answer lost");
    },
  });
  for (let n = 1; n <= 1_500; n++) {
    first.audit({ event: "connect", who: "a", service: "s", outcome: `${n}` }, n);
  }
  await eventually(async () => (await entriesOf(ground)).length > 0);
  await first.close();
  await link.server.close();

  const second = await open(folder, link);
  second.audit({ event: "close", who: "a", service: "s", outcome: "1501" }, 1_501);
  await eventually(() => second.problem);
  await ground.serve(link.server.port);
  await eventually(async () => (await entriesOf(ground)).length >= 1_501);
  await second.close();

  const entries = await entriesOf(ground);
  assert.deepEqual(
    entries.map(({ outcome }) => Number(outcome)),
    Array.from({ length: 1_501 }, (_, n) => n + 1),
  );
  assert.ok(entries.every(({ source }) => source === RELAY));
  assert.equal((await verifyChain(ground.store.readAudit())).ok, true);
});

Deno.test("sessions that a killed relay left open are closed when it comes back", async () => {
  await using ground = await SyncGround.open();
  const link = ground.localLink();
  const killed = new SessionLedger({ relay: RELAY, now: Date.now });
  killed.open({ identity: "spiffe://t/agent/a", kind: "agent", remote: "192.0.2.1:5", end: () => {} });
  const first = await open(await Deno.makeTempDir(), link, killed);
  const openSessions = async () => (await ground.store.sessions({ limit: 10, open: true })).items;
  await eventually(async () => (await openSessions()).length === 1);
  const second = await open(await Deno.makeTempDir(), link);
  await eventually(async () => (await openSessions()).length === 0);
  await first.close();
  await second.close();
});

async function open(
  folder: string,
  link: Pick<ControllerLink, "report">,
  sessions = new SessionLedger({ relay: RELAY, now: Date.now }),
): Promise<RelayReporter> {
  return new RelayReporter({
    link,
    spool: await AuditSpool.open(join(folder, "spool"), { logger: SILENT_LOGGER, source: RELAY }),
    sessions,
    status: () => ({ identity: RELAY, revision: 1, version: "1" }),
    logger: SILENT_LOGGER,
  });
}

async function entriesOf(ground: SyncGround): Promise<AuditEntry[]> {
  const entries: AuditEntry[] = [];
  for await (const batch of ground.store.readAudit()) entries.push(...batch);
  return entries;
}
