/** `ginnel audit`: a log that somebody changed behind the controller's back, from the database and through the API. */

import assert from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";
import { auditCommand } from "../../src/cli/audit.ts";
import { type AuditGround, factOf, startAuditGround } from "./audit_ground.ts";
import { Printed } from "./demo_folder.ts";

/** What an intruder who can write the database may do, and what verification says. */
const INTRUSIONS: Readonly<Record<string, { readonly sql: string; readonly says: RegExp }>> = {
  "changes who did it": {
    sql: "UPDATE audit SET who = 'spiffe://t/agent/other' WHERE seq = 700",
    says: /^Entry 700 .* was changed/,
  },
  "changes a detail": {
    sql: `UPDATE audit SET detail = '{"n":1}' WHERE seq = 700`,
    says: /^Entry 700 .* was changed/,
  },
  "takes an entry out": { sql: "DELETE FROM audit WHERE seq = 700", says: /^Entry 701 .* is missing/ },
  "takes many out": {
    sql: "DELETE FROM audit WHERE seq BETWEEN 3 AND 900",
    says: /^Entry 901 .* is missing/,
  },
  "swaps two": {
    sql: `UPDATE audit SET seq = -1 WHERE seq = 700; UPDATE audit SET seq = 700 WHERE seq = 701;
      UPDATE audit SET seq = 701 WHERE seq = -1`,
    says: /^Entry 700 .* was changed/,
  },
};

for (const [what, { sql, says }] of Object.entries(INTRUSIONS)) {
  Deno.test(`audit verify finds the entry when somebody ${what}`, async () => {
    await using ground = await startAuditGround(1_200);
    intrude(ground, sql);
    for (const source of [["--config", ground.config], ground.access("admin")]) {
      const { code, out } = await run("verify", ...source);
      assert.match(out, says, source[0]);
      assert.equal(code, 1);
    }
  });
}

Deno.test("audit verify finds a log cut off at its end by a head kept elsewhere", async () => {
  await using ground = await startAuditGround(600);
  const before = await run("verify", "--config", ground.config);
  const [, head] = /head (\S+@600)\n$/.exec(before.out)!;
  intrude(ground, "DELETE FROM audit WHERE seq > 550");
  const careless = await run("verify", "--config", ground.config);
  assert.match(careless.out, /^Entry 551 .* the log ends before it/, "the database's own note is enough");
  assert.equal(careless.code, 1);
  intrude(
    ground,
    "UPDATE audit_head SET seq = 550, hash = (SELECT hash FROM audit WHERE seq = 550)",
  );
  const blind = await run("verify", "--config", ground.config);
  assert.deepEqual([before.code, blind.code], [0, 0]);
  for (const source of [["--config", ground.config], ground.access("admin")]) {
    const { code, out } = await run("verify", ...source, "--head", head!);
    assert.match(out, /^Entry 551 .* the log ends before it/);
    assert.equal(code, 1);
  }
});

Deno.test("audit verify says the same of a whole log in the database and through the API", async () => {
  await using ground = await startAuditGround(1_001);
  const [direct, remote] = [
    await run("verify", "--json", "--config", ground.config),
    await run("verify", "--json", ...ground.access("admin")),
  ];
  assert.equal(direct.code, 0, direct.err);
  assert.equal(JSON.parse(direct.out).entries, 1_001);
  assert.deepEqual(remote, direct);
});

Deno.test("audit verify of a large log says how far it is", async () => {
  await using ground = await startAuditGround(20_500);
  const { code, err } = await run("verify", "--config", ground.config);
  assert.deepEqual([code, err], [0, "10000 entries are right so far\n20000 entries are right so far\n"]);
});

Deno.test("audit verify refuses to judge what it may not see", async () => {
  await using ground = await startAuditGround(2);
  await ground.store.appendAudit([{ ...factOf(3), event: "admin" }]);
  const { code, err } = await run("verify", ...ground.access("viewer"));
  assert.equal(code, 1);
  assert.match(err, /hidden from you.*role admin/);
});

Deno.test("audit query filters by time, identity, service, outcome and event, the same from both sources", async () => {
  await using ground = await startAuditGround(1_200);
  const cases: Readonly<Record<string, (n: number) => boolean>> = {
    "--who spiffe://t/agent/a2 --service web": (n) => n % 5 === 2 && n % 2 === 0,
    "--outcome denied": (n) => n % 3 === 0,
    "--event connect --limit 7": (n) => n % 3 !== 0,
    "--since 2026-01-01T00:10:00Z --until 2026-01-01T00:20:00Z": (n) => n >= 10 && n < 20,
    "--limit 1200": () => true,
    "--since 1s": () => false,
  };
  for (const [flags, matches] of Object.entries(cases)) {
    const limit = Number(/--limit (\d+)/.exec(flags)?.[1] ?? 100);
    const expected = Array.from({ length: 1_200 }, (_, index) => 1_200 - index).filter(matches).slice(
      0,
      limit,
    );
    for (const source of [["--config", ground.config], ground.access("viewer")]) {
      const { code, out, err } = await run("query", ...source, ...flags.split(" "), "--json");
      assert.equal(code, 0, err);
      assert.deepEqual(JSON.parse(out).entries.map(({ seq }: { seq: number }) => seq), expected, flags);
    }
  }
});

Deno.test("audit query prints one line for each entry, and nothing that steers a terminal", async () => {
  await using ground = await startAuditGround(1);
  await ground.store.appendAudit([{ ...factOf(2), who: "\x1b[2Jx\ny\u202e", detail: {} }]);
  const { out } = await run("query", "--config", ground.config);
  assert.equal(
    out,
    "2026-01-01T00:02:00.000Z  connect  open  \\u{1b}[2Jx\\u{a}y\\u{202e}  web\n" +
      `2026-01-01T00:01:00.000Z  connect  open  spiffe://t/agent/a1  ssh  {"n":1}\n`,
  );
});

Deno.test("audit makes no database where there is none, and says what a config lacks", async () => {
  await using ground = await startAuditGround(0);
  const other = `${ground.folder}/other.json`;
  await Deno.writeTextFile(
    other,
    JSON.stringify({ mode: "controller", trustDomain: "t", data: "elsewhere" }),
  );
  const missing = await run("verify", "--config", other);
  assert.equal(missing.code, 1);
  assert.match(missing.err, /there is no such file/);
  await assert.rejects(Deno.stat(`${ground.folder}/elsewhere`), Deno.errors.NotFound);
});

Deno.test("audit --config does not touch the database, nor bring it up to date", async () => {
  await using ground = await startAuditGround(3);
  await ground.store[Symbol.asyncDispose]();
  await Deno.chmod(ground.database, 0o400);
  const before = await Deno.readFile(ground.database);
  for (const word of ["verify", "query"]) {
    const { code, err } = await run(word, "--config", ground.config);
    assert.equal(code, 0, err);
  }
  assert.deepEqual(await Deno.readFile(ground.database), before);
  const db = new DatabaseSync(ground.database);
  db.exec("DELETE FROM schema_migrations");
  db.close();
  const { code, err } = await run("verify", "--config", ground.config);
  assert.equal(code, 1);
  assert.match(err, /Start its controller once/);
});

Deno.test("audit refuses a command line that makes no sense", async () => {
  const wrong: Readonly<Record<string, RegExp>> = {
    "": /Missing verify or query/,
    "verify": /Missing --config/,
    "verify --config a --controller b": /not beside/,
    "verify --config a --head zz@1": /no HASH@SEQ/,
    "query --config a --event nonsense": /none of admin/,
    "query --config a --since yesterday": /no time/,
    "query --config a --limit 0": /no number/,
    "query --config a --limit 10001": /no number/,
    "query --config a --nope": /Unknown flag/,
  };
  for (const [line, says] of Object.entries(wrong)) {
    const { code, err } = await run(...line.split(" ").filter((word) => word !== ""));
    assert.equal(code, 2, line);
    assert.match(err, says);
  }
});

function intrude({ database }: AuditGround, sql: string): void {
  using db = new DatabaseSync(database);
  db.exec("PRAGMA busy_timeout = 5000");
  // Who can write the database can take its guards away too.
  for (const { name } of db.prepare("SELECT name FROM sqlite_master WHERE type = 'trigger'").all()) {
    db.exec(`DROP TRIGGER "${name}"`);
  }
  db.exec(sql);
}

async function run(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  const io = new Printed();
  const code = await auditCommand(args, io);
  return { code, out: io.out, err: io.err };
}
