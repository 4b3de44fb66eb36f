/** Audit facts that wait on disk: killed writers, full disks, damaged files, batches that come twice. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { SILENT_LOGGER } from "../../src/base/log.ts";
import type { AuditFact } from "../../src/core/network/audit_entry.ts";
import { AuditSpool, type AuditSpoolOptions, type SpoolBatch } from "../../src/store/audit_spool.ts";
import { eventually } from "../support/eventually.ts";
import { ManagedProcess } from "../support/processes.ts";
import { factOf, type Reported } from "./spool_writer.ts";

const SOURCE = "spiffe://t/relay/r";

Deno.test("a relay killed again and again loses no fact and reports none twice", async () => {
  const folder = await Deno.makeTempDir();
  const reports = join(folder, "reports.jsonl");
  let acknowledged = 0;
  for (let round = 0; round < 5; round++) {
    const script = new URL("./spool_writer.ts", import.meta.url).pathname;
    const command = [Deno.execPath(), "run", "--quiet", "--no-check", "-A", script];
    await using writer = ManagedProcess.spawn([
      ...command,
      join(folder, "spool"),
      reports,
      `${acknowledged + 1}`,
    ]);
    const target = acknowledged + 50 * (1 + round * 17);
    await writer.waitForLine(new RegExp(`^acknowledged ${target}$`), { timeoutMs: 60_000 });
    await writer.stop({ signal: "SIGKILL" });
    acknowledged = Number(/\d+/.exec(writer.lines.at(-1)!)![0]);
  }
  const batches = new Map<string, readonly number[]>();
  const keep = ({ id, numbers }: Reported) => {
    const known = batches.get(id);
    // What comes twice under one name is the same, so that counting it once is right.
    if (known !== undefined) assert.deepEqual(numbers, known);
    batches.set(id, numbers);
  };
  for (const line of (await Deno.readTextFile(reports)).split("\n").slice(0, -1)) keep(JSON.parse(line));
  await using spool = await open(join(folder, "spool"));
  for (const { id, facts } of await takeAll(spool)) keep({ id, numbers: facts.map(({ time }) => time) });
  const numbers = [...batches.values()].flat();
  const times = new Map<number, number>();
  for (const number of numbers) times.set(number, (times.get(number) ?? 0) + 1);
  for (let n = 1; n <= acknowledged; n++) assert.ok(times.has(n), `fact ${n} of ${acknowledged} is lost`);
  // A killed writer may have written more than it acknowledged; its successor writes those numbers again.
  const twice = [...times].filter(([, count]) => count > 1).length;
  assert.ok(twice <= 5 * 50, `${twice} facts came twice`);
});

Deno.test("a batch stays the same until it is done with, over a crash too, whatever comes behind it", async () => {
  const folder = await Deno.makeTempDir();
  const crashed = await open(folder);
  add(crashed, 1, 3);
  await crashed.flushed();
  const first = await crashed.next();
  add(crashed, 4, 5);
  await crashed.flushed();
  assert.equal(await crashed.next(), first);
  const copy = await copyOf(folder);
  await crashed.close();
  await using spool = await open(copy);
  const again = await spool.next();
  assert.deepEqual({ id: again!.id, facts: again!.facts }, { id: first!.id, facts: [1, 2, 3].map(factOf) });
  assert.deepEqual([first!.isRepeated, again!.isRepeated], [false, true]);
  await spool.done(again!);
  const rest = await takeAll(spool);
  assert.deepEqual(rest.flatMap(({ facts }) => facts), [4, 5].map(factOf));
  assert.notEqual(rest[0]!.id, first!.id);
});

Deno.test("what is done with never comes again, also after a clean stop", async () => {
  const folder = await Deno.makeTempDir();
  const spool = await open(folder);
  add(spool, 1, 2_500);
  await spool.flushed();
  const batches = await takeAll(spool);
  assert.deepEqual(batches.map(({ facts }) => facts.length).toSorted((a, b) => b - a)[0], 1_000);
  assert.equal(spool.waiting, 0);
  await spool.close();
  await using again = await open(folder);
  assert.equal(await again.next(), undefined);
  add(again, 7, 7);
  await again.flushed();
  assert.deepEqual((await again.next())?.facts, [factOf(7)]);
});

Deno.test("a full spool loses the oldest facts, says how many, and never what is being reported", async () => {
  const folder = await Deno.makeTempDir();
  await using spool = await open(folder, { maxBytes: 64 * 1024 });
  add(spool, 1, 10);
  await spool.flushed();
  const held = await spool.next();
  for (let n = 11; n <= 1_010; n += 20) {
    add(spool, n, n + 19);
    await spool.flushed();
  }
  assert.ok(await sizeOf(folder) <= 64 * 1024);
  assert.deepEqual(held!.facts, Array.from({ length: 10 }, (_, index) => factOf(index + 1)));
  await spool.done(held!);
  await spool.flushed();
  const facts = (await takeAll(spool)).flatMap((batch) => batch.facts);
  const lost = facts.filter(({ outcome }) => outcome === "lost");
  const kept = facts.filter(({ outcome }) => outcome !== "lost").map(({ time }) => time);
  assert.equal(kept.at(-1), 1_010);
  assert.ok(lost.every(({ detail, who }) => detail["reason"] === "full" && who === SOURCE));
  // Notices of loss wait like any fact and are lost like any; the last one tells of all, notices included.
  const told = lost.at(-1)!.detail["sinceStart"] as number;
  const missing = 1_010 - 10 - kept.length;
  assert.ok(told >= missing && told <= missing + 50, `${told} told, ${missing} missing`);
});

Deno.test("more than the disk takes at once is counted, not waited for", async () => {
  const folder = await Deno.makeTempDir();
  await using spool = await open(folder, { capacity: 10 });
  add(spool, 1, 25);
  await spool.flushed();
  const facts = await eventually(async () => {
    const found = (await spool.next())?.facts ?? [];
    return found.length === 11 && found;
  });
  assert.deepEqual(facts.filter(({ outcome }) => outcome === "lost").map(({ detail }) => detail), [
    { reason: "overflow", count: 15, sinceStart: 15 },
  ]);
});

Deno.test("a torn last line is no fact; a damaged one in the middle is counted, and those around it hold", async () => {
  const folder = await Deno.makeTempDir();
  const writer = await open(folder);
  add(writer, 1, 5);
  await writer.close();
  const path = join(folder, "0000000000000001.jsonl");
  const lines = (await Deno.readTextFile(path)).split("\n").slice(0, -1);
  lines[1] = "{";
  lines[2] = JSON.stringify({ ...factOf(3), event: "nonsense" });
  await Deno.writeTextFile(path, `${lines.join("\n")}\n{"time":6,"ev`);
  await using spool = await open(folder);
  add(spool, 7, 7);
  await spool.flushed();
  // The notice of what is damaged joins the queue as it is found: in the first round, or soon after.
  const facts: AuditFact[] = [];
  await eventually(async () => {
    facts.push(...(await takeAll(spool)).flatMap((batch) => batch.facts));
    return facts.length >= 5;
  });
  assert.deepEqual(facts.filter(({ outcome }) => outcome === "open").map(({ time }) => time), [1, 4, 5, 7]);
  assert.deepEqual(facts.filter(({ outcome }) => outcome !== "open").map(({ detail }) => detail), [
    { reason: "damaged", count: 2, sinceStart: 2 },
  ]);
});

Deno.test("a damaged cursor, and one from the future, cost no fact and give no old number or name anew", async () => {
  for (const text of ["", "{}", `{"name":"a","acked":-1}`, `{"name":"../a","acked":0}`]) {
    const folder = await Deno.makeTempDir();
    const writer = await open(folder);
    add(writer, 1, 2);
    await writer.flushed();
    const before = await writer.next();
    await writer.close();
    await Deno.writeTextFile(join(folder, "cursor.json"), text);
    await using spool = await open(folder);
    const after = await spool.next();
    assert.deepEqual(after?.facts, before?.facts);
    assert.notEqual(after?.id, before?.id);
  }
  const folder = await Deno.makeTempDir();
  await Deno.writeTextFile(join(folder, "cursor.json"), `{"name":"n","acked":40}`);
  await using spool = await open(folder);
  add(spool, 1, 1);
  await spool.flushed();
  assert.equal((await spool.next())?.id, "n-41-41");
});

Deno.test("a disk that fails is a problem to show; what waits is written once it works again", async () => {
  const folder = await Deno.makeTempDir();
  await using spool = await open(folder, { retryInterval: 10 });
  const path = join(folder, "0000000000000001.jsonl");
  await Deno.mkdir(path);
  add(spool, 1, 2);
  await eventually(() => spool.problem);
  await Deno.remove(path);
  await spool.flushed();
  assert.equal(spool.problem, undefined);
  assert.deepEqual((await spool.next())?.facts, [1, 2].map(factOf));
});

Deno.test("one relay at a time; files are its owner's alone; a fact of any size fits", async () => {
  const folder = join(await Deno.makeTempDir(), "spool");
  const spool = await open(folder);
  await assert.rejects(open(folder), { code: "ERR_SPOOL_IN_USE" });
  spool.add({ ...factOf(1), who: "x".repeat(100_000), detail: { text: "y".repeat(100_000) } });
  await spool.flushed();
  const [fact] = (await spool.next())!.facts;
  assert.equal(fact?.who.length, 2_048);
  await spool.close();
  assert.equal((await Deno.stat(folder)).mode! & 0o777, 0o700);
  for await (const { name } of Deno.readDir(folder)) {
    assert.equal((await Deno.stat(join(folder, name))).mode! & 0o777, 0o600, name);
  }
  await (await open(folder)).close();
});

function open(folder: string, options: Partial<AuditSpoolOptions> = {}): Promise<AuditSpool> {
  return AuditSpool.open(folder, { logger: SILENT_LOGGER, source: SOURCE, ...options });
}

function add(spool: AuditSpool, first: number, last: number): void {
  for (let n = first; n <= last; n++) spool.add(factOf(n));
}

async function takeAll(spool: AuditSpool): Promise<readonly SpoolBatch[]> {
  const batches: SpoolBatch[] = [];
  for (let batch = await spool.next(); batch !== undefined; batch = await spool.next()) {
    batches.push(batch);
    await spool.done(batch);
  }
  return batches;
}

/** The files as a crash at this moment would leave them. */
async function copyOf(folder: string): Promise<string> {
  const copy = await Deno.makeTempDir();
  for await (const { name } of Deno.readDir(folder)) {
    await Deno.copyFile(join(folder, name), join(copy, name));
  }
  return copy;
}

async function sizeOf(folder: string): Promise<number> {
  let size = 0;
  for await (const { name } of Deno.readDir(folder)) size += (await Deno.stat(join(folder, name))).size;
  return size;
}
