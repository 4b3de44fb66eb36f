/** What reaches a controller that comes and goes, and a relay that is restarted. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { SILENT_LOGGER } from "../../../../src/base/log.ts";
import { ControllerError, type RelayReport } from "../../../../src/control/sync/link.ts";
import { RelayReporter } from "../../../../src/modes/relay/reporter/relay_reporter.ts";
import { SessionLedger } from "../../../../src/modes/relay/reporter/session_ledger.ts";
import { AuditSpool } from "../../../../src/store/audit_spool.ts";
import type { AuditRecord } from "../../../../src/telemetry/audit.ts";
import { eventually } from "../../../support/eventually.ts";
import { within } from "../../../support/within.ts";

const RELAY = "spiffe://t/relay/r";
const DENIED: AuditRecord = {
  event: "deny",
  who: "someone",
  service: "web",
  outcome: "403",
  reason: "no_policy",
};

/** A controller that counts each batch once; its answers can get lost. */
class Controller {
  readonly reports: RelayReport[] = [];
  isAway = false;
  losesAnswers = false;

  report(report: RelayReport): Promise<void> {
    if (this.isAway) return Promise.reject(away());
    this.reports.push(report);
    return this.losesAnswers ? Promise.reject(away()) : Promise.resolve();
  }

  /** Outcomes of audit facts, each batch counted once. */
  get outcomes(): string[] {
    const batches = new Map(this.reports.map(({ batch, audit }) => [batch, audit]));
    return [...batches.values()].flat().map(({ outcome }) => outcome);
  }
}

Deno.test("facts wait on disk while the controller is away, over a restart, and arrive once, in order", async () => {
  const controller = new Controller();
  const folder = await Deno.makeTempDir();
  controller.isAway = true;
  const first = await start(controller, folder);
  for (const outcome of ["1", "2", "3"]) first.reporter.audit({ ...DENIED, outcome }, 5);
  await eventually(() => first.reporter.problem);
  await first.reporter.close();
  controller.isAway = false;
  const second = await start(controller, folder);
  second.reporter.audit({ ...DENIED, outcome: "4" }, 6);
  await eventually(() => controller.outcomes.length === 4);
  assert.deepEqual(controller.outcomes, ["1", "2", "3", "4"]);
  assert.equal(second.reporter.problem, undefined);
  await second.reporter.close();
});

Deno.test("what failed is tried again as soon as a controller is known to be back", async () => {
  const controller = new Controller();
  controller.isAway = true;
  const { reporter } = await start(controller, await Deno.makeTempDir());
  reporter.audit(DENIED, 5);
  await eventually(() => reporter.problem);
  controller.isAway = false;
  // By itself it would wait for half a second at least, and later for half a minute.
  await within(400, () => {
    reporter.retry();
    return eventually(() => controller.outcomes.length === 1);
  });
  await eventually(() => reporter.problem === undefined);
  await reporter.close();
});

Deno.test("an answer that got lost makes the same batch come again, not another one", async () => {
  const controller = new Controller();
  const folder = await Deno.makeTempDir();
  controller.losesAnswers = true;
  const first = await start(controller, folder);
  first.reporter.audit(DENIED, 5);
  await eventually(() => controller.outcomes.length === 1);
  await first.reporter.close();
  controller.losesAnswers = false;
  const second = await start(controller, folder);
  second.reporter.audit({ ...DENIED, outcome: "404" }, 6);
  await eventually(() => controller.outcomes.includes("404"));
  await second.reporter.close();
  assert.deepEqual(controller.outcomes, ["403", "404"]);
});

Deno.test("a fact says who, what and where, and holds no text that a database refuses", async () => {
  const controller = new Controller();
  const { reporter } = await start(controller, await Deno.makeTempDir());
  reporter.audit({ ...DENIED, who: "a\0b\ud800", service: "x".repeat(5_000), bytesIn: 7 }, 5.5);
  await eventually(() => controller.outcomes.length === 1);
  await reporter.close();
  const [fact] = controller.reports.flatMap(({ audit }) => audit);
  assert.deepEqual(fact, {
    time: 5,
    event: "deny",
    who: "a\ufffdb\ufffd",
    target: "x".repeat(2_048),
    outcome: "403",
    detail: { reason: "no_policy", bytesIn: 7 },
    source: RELAY,
  });
});

Deno.test("the controller hears of the relay though nothing happens, and last when it stops", async () => {
  const controller = new Controller();
  const { reporter, sessions } = await start(controller, await Deno.makeTempDir(), { interval: 10 });
  await eventually(() => controller.reports.length >= 3);
  const session = sessions.open({
    identity: "spiffe://t/agent/a",
    kind: "agent",
    remote: "192.0.2.1:5",
    end: () => {},
  });
  await eventually(() => controller.reports.some(({ status }) => status.sessions === 1));
  session.close();
  await reporter.close();
  const { status, sessions: last } = controller.reports.at(-1)!;
  assert.deepEqual({ ...status, lastSeenAt: 0 }, {
    identity: RELAY,
    revision: 3,
    version: "1",
    sessions: 0,
    lastSeenAt: 0,
  });
  assert.ok([last, controller.reports.at(-2)!.sessions].flat().some(({ closedAt }) => closedAt !== null));
  assert.deepEqual(controller.reports.map(({ isFirst }) => isFirst === true).filter(Boolean), [true]);
});

Deno.test("a relay can stop while its controller does not answer", async () => {
  const controller = { report: () => new Promise<void>(() => {}) };
  const { reporter } = await start(controller, await Deno.makeTempDir());
  reporter.audit(DENIED, 5);
  await reporter.close();
});

async function start(
  link: { report(report: RelayReport): Promise<void> },
  folder: string,
  options: { readonly interval?: number } = {},
) {
  const spool = await AuditSpool.open(join(folder, "spool"), { logger: SILENT_LOGGER, source: RELAY });
  const sessions = new SessionLedger({ relay: RELAY, now: Date.now });
  const reporter = new RelayReporter({
    link,
    spool,
    sessions,
    status: () => ({ identity: RELAY, revision: 3, version: "1" }),
    logger: SILENT_LOGGER,
    linger: 1,
    ...options,
  });
  return { reporter, sessions };
}

function away(): ControllerError {
  return new ControllerError("ERR_CONTROLLER_UNAVAILABLE", "Cannot reach the controller");
}
