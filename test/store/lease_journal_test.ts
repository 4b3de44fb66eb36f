import assert from "node:assert/strict";
import { join } from "node:path";
import { createLogger, SILENT_LOGGER } from "../../src/base/log.ts";
import { formatIp, parseIp } from "../../src/base/ip.ts";
import type { Lease } from "../../src/core/ipam.ts";
import { LeaseJournal, type LeaseJournalOptions } from "../../src/store/lease_journal.ts";
import { readStoredLeases, releaseStoredLease } from "../../src/store/stored_leases.ts";
import { eventually } from "../support/eventually.ts";
import { ManagedProcess } from "../support/processes.ts";
import { BURST, recordOf } from "./lease_writer.ts";

async function freshPath(): Promise<string> {
  return join(await Deno.makeTempDir(), "leases.jsonl");
}

function open(path: string, options: Partial<LeaseJournalOptions> = {}) {
  return LeaseJournal.open(path, { logger: SILENT_LOGGER, ...options });
}

function lease(name: string, ipv4 = "10.100.0.2", lastSeen = 2): Lease {
  return {
    identity: `spiffe://t/agent/${name}`,
    ipv4: parseIp(ipv4)!,
    ipv6: parseIp("fd00::2")!,
    since: 1,
    lastSeen,
  };
}

function names(leases: readonly Lease[]): string[] {
  return leases.map(({ identity }) => identity.split("/").at(-1)!).sort();
}

/** What a relay that starts now would know. */
async function reopen(path: string): Promise<readonly Lease[]> {
  const { leases, journal } = await open(path);
  await journal.close();
  return leases;
}

Deno.test("what was recorded is there after a restart, what was released is not, the last word holds", async () => {
  const path = await freshPath();
  const { leases, journal } = await open(path);
  assert.deepEqual(leases, []);
  journal.record(lease("alice"));
  journal.record(lease("bob", "10.100.0.3"));
  journal.record(lease("alice", "10.100.0.4", 9));
  await journal.flushed();
  journal.release("spiffe://t/agent/bob");
  journal.release("spiffe://t/agent/nobody");
  journal.record({ ...lease("carol"), ipv4: null });
  await journal.close();
  assert.deepEqual(await reopen(path), [lease("alice", "10.100.0.4", 9), { ...lease("carol"), ipv4: null }]);
});

Deno.test("the file is its owner's alone, also one that was not, and one line a lease after a start", async () => {
  const path = await freshPath();
  await Deno.writeTextFile(path, "", { mode: 0o644 });
  await Deno.chmod(path, 0o644);
  const { journal } = await open(path);
  for (let n = 0; n < 50; n++) {
    journal.record(lease("alice", "10.100.0.2", n));
    await journal.flushed();
  }
  await journal.close();
  assert.equal((await Deno.readTextFile(path)).split("\n").length, 51);
  await reopen(path);
  const text = await Deno.readTextFile(path);
  assert.equal(text.split("\n").length, 2);
  assert.deepEqual(JSON.parse(text), {
    op: "lease",
    identity: "spiffe://t/agent/alice",
    ipv4: "10.100.0.2",
    ipv6: "fd00::2",
    since: "1970-01-01T00:00:00.001Z",
    lastSeen: "1970-01-01T00:00:00.049Z",
  });
  assert.equal((await Deno.stat(path)).mode! & 0o777, 0o600);
});

Deno.test("a file torn at any byte gives what stood in its whole lines", async () => {
  const path = await freshPath();
  const { journal } = await open(path);
  for (const [name, ipv4] of [["alice", "10.100.0.2"], ["bob", "10.100.0.3"]] as const) {
    journal.record(lease(name, ipv4));
    await journal.flushed();
  }
  journal.release("spiffe://t/agent/alice");
  await journal.close();
  const text = await Deno.readTextFile(path);
  const ends = [...text.matchAll(/\n/g)].map(({ index }) => index);
  for (let length = 0; length <= text.length; length++) {
    await Deno.writeTextFile(path, text.slice(0, length));
    // A line is whole when only its newline is missing.
    const whole = ends.filter((end) => end <= length).length;
    const expected = [[], ["alice"], ["alice", "bob"], ["bob"]][whole];
    assert.deepEqual(names(await reopen(path)), expected, `torn at ${length}`);
  }
});

Deno.test("damaged lines are skipped and counted in the log, those around them hold", async () => {
  const path = await freshPath();
  const { journal } = await open(path);
  journal.record(lease("alice"));
  await journal.close();
  const good = await Deno.readTextFile(path);
  const bad = ["{", "null", "[]", "\0\0\0", '{"op":"lease"}', good.slice(0, 40), good.replace("10.", "256.")];
  await Deno.writeTextFile(path, [...bad, ""].join("\n") + good.replace("alice", "bob") + "\xff{\n");
  const lines: string[] = [];
  const logger = createLogger({ write: (line) => void lines.push(line) });
  const second = await open(path, { logger });
  await second.journal.close();
  assert.deepEqual(names(second.leases), ["bob"]);
  assert.equal(lines.length, 1);
  assert.match(lines[0]!, /"warn".*"lease_lines_damaged".*"lines":8/);
});

Deno.test("a line torn while the relay runs does not take the next one with it", async () => {
  const path = await freshPath();
  await using journal = (await open(path)).journal;
  journal.record(lease("alice"));
  await journal.flushed();
  await Deno.writeTextFile(path, '{"op":"rel', { append: true });
  journal.record(lease("bob", "10.100.0.3"));
  await journal.flushed();
  assert.deepEqual(names(await readStoredLeases(path)), ["alice", "bob"]);
});

Deno.test("a release by another process reaches the relay that runs, once, and lasts", async () => {
  const path = await freshPath();
  const { journal } = await open(path, { pollInterval: 5 });
  const heard: string[] = [];
  journal.watch((identity) => void heard.push(identity));
  journal.record(lease("alice"));
  journal.record(lease("bob", "10.100.0.3"));
  await journal.flushed();
  assert.equal(
    formatIp((await releaseStoredLease(path, "spiffe://t/agent/alice"))!.ipv4!),
    "10.100.0.2",
  );
  assert.equal(await releaseStoredLease(path, "spiffe://t/agent/alice"), undefined);
  await eventually(() => heard.length > 0);
  journal.record(lease("bob", "10.100.0.3", 7));
  await journal.flushed();
  assert.deepEqual(heard, ["spiffe://t/agent/alice"]);
  await journal.close();
  assert.deepEqual(names(await reopen(path)), ["bob"]);
});

Deno.test("a release by another process comes before what the relay records meanwhile", async () => {
  const path = await freshPath();
  await using journal = (await open(path)).journal;
  journal.record(lease("alice"));
  await journal.flushed();
  await releaseStoredLease(path, "spiffe://t/agent/alice");
  journal.record(lease("alice", "10.100.0.2", 8));
  await journal.flushed();
  assert.deepEqual(await readStoredLeases(path), []);
  const heard: string[] = [];
  journal.watch((identity) => void heard.push(identity));
  assert.deepEqual(heard, ["spiffe://t/agent/alice"], "what came before the watch is told too");
});

Deno.test("a fault in whoever hears of a release does not stop the journal", async () => {
  const path = await freshPath();
  const lines: string[] = [];
  const logger = createLogger({ write: (line) => void lines.push(line) });
  await using journal = (await open(path, { logger, pollInterval: 5 })).journal;
  journal.watch(() => {
    throw new Error("boom");
  });
  journal.record(lease("alice"));
  await journal.flushed();
  await releaseStoredLease(path, "spiffe://t/agent/alice");
  await eventually(() => lines.some((line) => line.includes("boom")));
  journal.record(lease("bob", "10.100.0.3"));
  await journal.flushed();
  assert.deepEqual(names(await readStoredLeases(path)), ["bob"]);
});

Deno.test("releases by others are not lost while the relay writes and rewrites the file", async () => {
  const path = await freshPath();
  await using journal = (await open(path)).journal;
  const heard = new Set<string>();
  journal.watch((identity) => void heard.add(identity));
  const kept = Array.from({ length: 40 }, (_, i) => lease(`kept-${i}`, `10.100.1.${i}`));
  const doomed = Array.from({ length: 40 }, (_, i) => lease(`doomed-${i}`, `10.100.2.${i}`));
  for (const each of [...kept, ...doomed]) journal.record(each);
  await journal.flushed();
  const busy = (async () => {
    for (let n = 0; n < 120; n++) {
      for (const each of kept) journal.record({ ...each, lastSeen: n });
      await journal.flushed();
    }
  })();
  for (const { identity } of doomed) await releaseStoredLease(path, identity);
  await busy;
  journal.record(kept[0]!);
  await journal.flushed();
  assert.deepEqual([...heard].sort(), doomed.map(({ identity }) => identity).sort());
  assert.deepEqual(names(await readStoredLeases(path)), names(kept));
  const lines = (await Deno.readTextFile(path)).split("\n").length;
  assert.ok(
    lines < 2_500,
    `the file is rewritten when it has grown, and has ${lines} lines of 5,000 written`,
  );
});

Deno.test("a file that somebody removes or replaces while the relay runs is written anew", async () => {
  const path = await freshPath();
  await using journal = (await open(path, { pollInterval: 5 })).journal;
  journal.watch(() => {});
  journal.record(lease("alice"));
  await journal.flushed();
  await Deno.remove(path);
  await eventually(async () => names(await readStoredLeases(path)).length === 1);
  await Deno.writeTextFile(`${path}.other`, "");
  await Deno.rename(`${path}.other`, path);
  journal.record(lease("bob", "10.100.0.3"));
  await journal.flushed();
  assert.deepEqual(names(await readStoredLeases(path)), ["alice", "bob"]);
});

Deno.test("two relays cannot use one file; after the first has closed it the second can", async () => {
  const path = await freshPath();
  const { journal } = await open(path);
  await assert.rejects(open(path), { code: "ERR_LEASES_IN_USE" });
  await journal.close();
  await journal.close();
  await reopen(path);
});

Deno.test("what cannot be written is told, kept, and written when it can be", async () => {
  const path = await freshPath();
  const lines: string[] = [];
  const logger = createLogger({ write: (line) => void lines.push(line) });
  const { journal } = await open(path, { logger, retryInterval: 5 });
  journal.record(lease("alice"));
  await journal.flushed();
  await Deno.remove(path);
  await Deno.mkdir(path);
  journal.record(lease("bob", "10.100.0.3"));
  await assert.rejects(journal.flushed(), { code: "ERR_LEASES_UNWRITABLE" });
  journal.release("spiffe://t/agent/alice");
  journal.record(lease("bob", "10.100.0.5"));
  await Deno.remove(path);
  await eventually(() => lines.some((line) => line.includes("leases_written_again")));
  assert.equal(
    lines.filter((line) => line.includes("leases_unwritten")).length,
    1,
    "told once, not each time",
  );
  await journal.close();
  assert.deepEqual(await reopen(path), [lease("bob", "10.100.0.5")]);
});

Deno.test("a folder that is not there is an error that names the file and the setting", async () => {
  await assert.rejects(open("/nowhere/leases.jsonl"), (error: Error & { code: string; hint: string }) => {
    assert.equal(error.code, "ERR_LEASES_UNWRITABLE");
    assert.match(error.message, /\/nowhere\/leases\.jsonl/);
    assert.match(error.hint, /tunnel\.leases/);
    return true;
  });
});

Deno.test("closing writes what waits, or tells who waits for it; after it nothing is recorded", async () => {
  const path = await freshPath();
  const first = (await open(path)).journal;
  first.record(lease("alice"));
  const written = first.flushed();
  await first.close();
  await written;
  first.record(lease("late", "10.100.0.9"));
  assert.deepEqual(names(await reopen(path)), ["alice"]);

  const second = (await open(path, { retryInterval: 60_000 })).journal;
  await Deno.remove(path);
  await Deno.mkdir(path);
  second.record(lease("bob", "10.100.0.3"));
  await assert.rejects(second.flushed(), { code: "ERR_LEASES_UNWRITABLE" });
  await assert.rejects(second.flushed(), { code: "ERR_LEASES_UNWRITABLE" }, "without waiting for the retry");
  const closing = second.close();
  const waiting = assert.rejects(second.flushed(), { code: "ERR_LEASES_CLOSED" });
  await closing;
  await waiting;
  await assert.rejects(second.flushed(), { code: "ERR_LEASES_CLOSED" });
});

Deno.test("a relay killed in the middle of its writes has lost nothing that it had acknowledged", async () => {
  const path = await freshPath();
  const writer = new URL("./lease_writer.ts", import.meta.url).pathname;
  let next = 1;
  for (let round = 0; round < 8; round++) {
    const target = next + BURST * (1 + round * 17) - 1;
    const command = [Deno.execPath(), "run", "--quiet", "--no-check", "-A", writer, path, `${next}`];
    await using child = ManagedProcess.spawn(command);
    await child.waitForLine(new RegExp(`^acknowledged ${target}$`), { timeoutMs: 60_000 });
    await child.stop({ signal: "SIGKILL" });
    const acknowledged = Number(/\d+/.exec(child.lines.at(-1)!)![0]);
    const highest = acknowledged + 2 * BURST;
    const found = new Map((await reopen(path)).map((each) => [each.identity, each]));
    const states = new Map<string, (Lease | undefined)[]>();
    for (let n = 1; n <= highest; n++) {
      const { identity, lease } = recordOf(n);
      if (n <= acknowledged) states.set(identity, [lease]);
      else states.set(identity, [...states.get(identity) ?? [undefined], lease]);
    }
    for (const [identity, possible] of states) {
      const stored = found.get(identity);
      assert.ok(
        possible.some((each) => each?.lastSeen === stored?.lastSeen),
        `${identity} is at ${stored?.lastSeen}, acknowledged ${acknowledged}`,
      );
      found.delete(identity);
    }
    assert.deepEqual([...found], []);
    next = highest + 1;
    // The next run goes on from a known state, as a relay does: it records all it has.
    const { journal } = await open(path);
    for (const [identity, possible] of states) {
      const last = possible.at(-1);
      if (last === undefined) journal.release(identity);
      else journal.record(last);
    }
    await journal.close();
  }
});
