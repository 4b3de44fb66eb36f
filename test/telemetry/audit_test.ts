import assert from "node:assert/strict";
import { createLogger, SILENT_LOGGER } from "../../src/base/log.ts";
import { eventually } from "../support/eventually.ts";
import { AuditLog, type AuditRecord, type AuditSink } from "../../src/telemetry/audit.ts";

const RECORD: AuditRecord = {
  event: "close",
  who: "spiffe://example.org/agent/alice",
  service: "rtmx-sync",
  outcome: "closed",
  bytesIn: 12,
  bytesOut: 34,
  durationMs: 56,
};

/** Keeps what is written; fails or holds writes back as told. */
class FakeSink implements AuditSink {
  readonly batchSize = 1_000;
  text = "";
  writes = 0;
  reopened = 0;
  isClosed = false;
  failure: Error | undefined;
  gate: Promise<void> | undefined;

  async write(bytes: Uint8Array): Promise<number> {
    this.writes++;
    await this.gate;
    if (this.failure !== undefined) throw this.failure;
    // Takes a part only, as a full pipe does.
    const taken = bytes.subarray(0, 100);
    this.text += new TextDecoder().decode(taken);
    return taken.length;
  }

  sync(): Promise<void> {
    return Promise.resolve();
  }

  reopen(): Promise<void> {
    this.reopened++;
    return Promise.resolve();
  }

  close(): void {
    this.isClosed = true;
  }

  get records(): Record<string, unknown>[] {
    return this.text.trimEnd().split("\n").filter((line) => line !== "").map((line) => JSON.parse(line));
  }
}

Deno.test("a record is one JSON line with the time", async () => {
  const sink = new FakeSink();
  const audit = new AuditLog(sink, { logger: SILENT_LOGGER, now: () => 0 });
  audit.record({ ...RECORD, reason: 'line\nbreak "quoted"' });
  await audit.close();
  assert.equal(sink.text.indexOf("\n"), sink.text.length - 1);
  assert.deepEqual(sink.records, [{
    time: "1970-01-01T00:00:00.000Z",
    type: "audit",
    level: "info",
    ...RECORD,
    reason: 'line\nbreak "quoted"',
  }]);
  assert.equal(sink.isClosed, true);
});

Deno.test("a refusal is a warning, everything else information", async () => {
  const sink = new FakeSink();
  const audit = new AuditLog(sink, { logger: SILENT_LOGGER });
  for (const event of ["connect", "deny", "close"] as const) audit.record({ ...RECORD, event });
  await audit.close();
  assert.deepEqual(sink.records.map(({ level }) => level), ["info", "warn", "info"]);
});

Deno.test("a burst keeps its order and leaves in batches", async () => {
  const sink = new FakeSink();
  const audit = new AuditLog(sink, { logger: SILENT_LOGGER });
  for (let i = 0; i < 500; i++) audit.record({ ...RECORD, durationMs: i });
  await audit.close();
  assert.deepEqual(sink.records.map((record) => record.durationMs), Array.from({ length: 500 }, (_, i) => i));
});

Deno.test("a full queue drops the newest, counts them and says so", async () => {
  const sink = new FakeSink();
  const gate = Promise.withResolvers<void>();
  sink.gate = gate.promise;
  const audit = new AuditLog(sink, { logger: SILENT_LOGGER, capacity: 3 });
  for (let i = 0; i < 10; i++) audit.record({ ...RECORD, durationMs: i });
  gate.resolve();
  await audit.close();
  assert.deepEqual(sink.records.map(({ event, durationMs, count }) => [event, durationMs ?? count]), [
    ["close", 0],
    ["close", 1],
    ["close", 2],
    ["dropped", 7],
  ]);
});

Deno.test("a failing file is logged once, shows as a problem and loses nothing once it works again", async () => {
  const lines: string[] = [];
  const logger = createLogger({ write: (line) => lines.push(line) });
  const sink = new FakeSink();
  sink.failure = new Error("No space left on device");
  const audit = new AuditLog(sink, { logger });
  audit.record(RECORD);
  await eventually(() => audit.problem === "audit records cannot be written");
  audit.record(RECORD);
  sink.failure = undefined;
  await audit.close();
  assert.equal(audit.problem, undefined);
  assert.equal(sink.records.length, 2);
  assert.deepEqual(lines.map((line) => JSON.parse(line).event), ["audit_write_failed"]);
});

Deno.test("close() ends even when the file never works, and says what is lost", async () => {
  const lines: string[] = [];
  const sink = new FakeSink();
  sink.failure = new Error("Input/output error");
  const audit = new AuditLog(sink, { logger: createLogger({ write: (line) => lines.push(line) }) });
  audit.record(RECORD);
  await audit.close();
  assert.deepEqual(lines.map((line) => JSON.parse(line).event), ["audit_write_failed", "audit_records_lost"]);
});

Deno.test("AuditLog.open() appends to a file that only its owner may read, also after rotation", async () => {
  const dir = await Deno.makeTempDir();
  const file = `${dir}/audit.log`;
  for (let run = 0; run < 2; run++) {
    const audit = await AuditLog.open({ file }, { logger: SILENT_LOGGER });
    audit.record(RECORD);
    await audit.close();
  }
  assert.equal((await Deno.stat(file)).mode! & 0o777, 0o600);
  assert.equal((await Deno.readTextFile(file)).trimEnd().split("\n").length, 2);
  const audit = await AuditLog.open({ file }, { logger: SILENT_LOGGER });
  await Deno.rename(file, `${file}.1`);
  audit.reopen();
  audit.record(RECORD);
  await audit.close();
  assert.equal((await Deno.readTextFile(file)).trimEnd().split("\n").length, 1);
});

Deno.test("AuditLog.open() names the file it cannot write", async () => {
  const file = `${await Deno.makeTempDir()}/none/audit.log`;
  await assert.rejects(AuditLog.open({ file }, { logger: SILENT_LOGGER }), (error: Error) => {
    assert.match(error.message, new RegExp(`^Cannot write the audit file ${file}: `));
    return true;
  });
});

Deno.test("every record is forwarded with its time, also what the log itself has no room for", async () => {
  const sink = new FakeSink();
  const forwarded: [AuditRecord, number][] = [];
  const forward = (record: AuditRecord, time: number) => forwarded.push([record, time]);
  const audit = new AuditLog(sink, { logger: SILENT_LOGGER, now: () => 7, capacity: 1, forward });
  audit.record(RECORD);
  audit.record({ ...RECORD, event: "deny" });
  await audit.close();
  assert.deepEqual(forwarded, [[RECORD, 7], [{ ...RECORD, event: "deny" }, 7]]);
  assert.equal(sink.records.length, 2);
  assert.equal(sink.records[1]?.["event"], "dropped");
});
