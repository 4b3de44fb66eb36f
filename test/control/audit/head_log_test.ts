/** The head of the audit log, written where an intruder in the database cannot reach it. */

import assert from "node:assert/strict";
import { createLogger } from "../../../src/base/log.ts";
import { AuditHeadLog } from "../../../src/control/audit/head_log.ts";
import { verifyChain } from "../../../src/core/audit/chain.ts";
import { eventually } from "../../support/eventually.ts";
import { factOf, startAuditGround } from "../../cli/audit_ground.ts";

Deno.test("the head is logged at the start, when it moved, and at the end; it is one that verification takes", async () => {
  await using ground = await startAuditGround(2);
  const lines: string[] = [];
  const logger = createLogger({ write: (line) => void lines.push(line) });
  const heads = new AuditHeadLog({ store: ground.store, logger, interval: 5 });
  const logged = () =>
    lines.filter((line) => line.includes("audit_head")).map((line) => /([0-9a-f]{64})@(\d+)/.exec(line)!);
  await eventually(() => logged().length === 1);
  await ground.store.appendAudit([factOf(3)]);
  await eventually(() => logged().length === 2);
  await ground.store.appendAudit([factOf(4)]);
  await heads.close();
  assert.deepEqual(logged().map(([, , seq]) => seq), ["2", "3", "4"]);
  const known = logged().map(([, hash, seq]) => ({ hash: hash!, seq: Number(seq) }));
  assert.equal((await verifyChain(ground.store.readAudit(), { heads: known })).ok, true);
});

Deno.test("a database that does not answer stops nothing", async () => {
  const lines: string[] = [];
  const logger = createLogger({ write: (line) => void lines.push(line) });
  const heads = new AuditHeadLog({ store: { queryAudit: () => Promise.reject(new Error("away")) }, logger });
  await heads.close();
  assert.equal(lines.filter((line) => line.includes("audit_head_unknown")).length, 2);
});
