/** `ginnel ca` as a person meets it: what it makes and prints, what it refuses, and what it never prints. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { caCommand } from "../../src/cli/ca.ts";
import { loadIdentity } from "../../src/identity/identity_file.ts";

Deno.test("ca init, issue and show make a network and say what was made", () =>
  inDirectory(async (directory) => {
    const ca = join(directory, "ca");
    const made = await run("init", "--trust-domain", "demo.internal", "--dir", ca);
    assert.equal(made.code, 0);
    for (const file of ["ca.crt", "ca.key", "authority.key", "authority.pub"]) {
      assert.ok(made.stdout.includes(join(ca, file)), file);
    }
    assert.match(made.stdout, /Next: ginnel ca issue relay relay-1 --dir/);
    assert.match(made.stdout, /ca\.key .*mode 0600/);

    const file = join(directory, "alice.json");
    const issued = await run("issue", "agent", "alice", "--dir", ca, "-o", file);
    assert.equal(issued.code, 0);
    assert.match(
      issued.stdout,
      /^Issued spiffe:\/\/demo\.internal\/agent\/alice, valid until \d{4}-\d\d-\d\d\n/,
    );
    assert.match(issued.stdout, /mode 0600/);
    assert.match(issued.stdout, /Next: /);
    assert.equal((await Deno.stat(file)).mode! & 0o777, 0o600);
    assert.equal((await loadIdentity(file)).id.name, "alice");

    const shown = await run("show", file);
    assert.equal(shown.code, 0);
    assert.match(shown.stdout, /subject\s+spiffe:\/\/demo\.internal\/agent\/alice\nstatus\s+valid\n/);
    assert.match((await run("show", "--dir", ca)).stdout, /subject\s+spiffe:\/\/demo\.internal\n/);
    assert.match((await run("show", join(ca, "ca.crt"))).stdout, /^certificate/);
  }));

Deno.test("ca prints JSON with the same facts", () =>
  inDirectory(async (directory) => {
    const ca = join(directory, "ca");
    const made = JSON.parse(
      (await run("init", "--trust-domain", "demo.internal", "--dir", ca, "--json")).stdout,
    );
    assert.equal(made.trustDomain, "demo.internal");
    assert.equal(made.files.key, join(ca, "ca.key"));
    const file = join(directory, "r.json");
    const issue = await run("issue", "relay", "relay-1", "--dir", ca, "-o", file, "--days", "7", "--json");
    const issued = JSON.parse(issue.stdout);
    assert.equal(issued.id, "spiffe://demo.internal/relay/relay-1");
    assert.equal(issued.file, file);
    const shown = JSON.parse((await run("show", file, "--json")).stdout);
    assert.equal(shown.what, "identity");
    assert.equal(shown.usable, true);
    assert.deepEqual(shown.authorities, [made.authority]);
    assert.equal(shown.notAfter, issued.notAfter);
  }));

Deno.test("ca never prints a key", () =>
  inDirectory(async (directory) => {
    const ca = join(directory, "ca");
    const file = join(directory, "a.json");
    const outputs = [
      await run("init", "--trust-domain", "demo.internal", "--dir", ca),
      await run("issue", "agent", "a", "--dir", ca, "-o", file),
      await run("show", file),
      await run("show", file, "--json"),
      await run("show", "--dir", ca, "--json"),
      await run("show", join(ca, "ca.key")),
      await run("show", join(ca, "authority.key")),
    ];
    const secrets = [
      JSON.parse(await Deno.readTextFile(file)).privateKey.split("\n")[1],
      (await Deno.readTextFile(join(ca, "ca.key"))).split("\n")[1]!,
      JSON.parse(await Deno.readTextFile(join(ca, "authority.key"))).d,
    ];
    for (const { stdout, stderr } of outputs) {
      for (const secret of secrets) assert.ok(!(stdout + stderr).includes(secret.slice(0, 16)));
    }
  }));

Deno.test("ca overwrites neither a CA nor an identity", () =>
  inDirectory(async (directory) => {
    const ca = join(directory, "ca");
    const file = join(directory, "a.json");
    await run("init", "--trust-domain", "demo.internal", "--dir", ca);
    await run("issue", "agent", "a", "--dir", ca, "-o", file);
    const before = await Deno.readTextFile(join(ca, "ca.key")) + await Deno.readTextFile(file);
    for (
      const again of [
        await run("init", "--trust-domain", "demo.internal", "--dir", ca),
        await run("issue", "agent", "a", "--dir", ca, "-o", file),
      ]
    ) {
      assert.equal(again.code, 1);
      assertOneLine(again, /exists already/);
    }
    assert.equal(await Deno.readTextFile(join(ca, "ca.key")) + await Deno.readTextFile(file), before);
  }));

Deno.test("ca answers a wrong command line with one line and exit code 2", () =>
  inDirectory(async (directory) => {
    const ca = join(directory, "ca");
    await run("init", "--trust-domain", "demo.internal", "--dir", ca);
    const wrong: [RegExp, string[]][] = [
      [/Unknown command "frob"/, ["frob"]],
      [/'--frob'/, ["init", "--frob"]],
      [/'-x'/, ["issue", "agent", "a", "-x"]],
      [/'--output'|'-o'/, ["show", "-o", "x"]],
      [/Missing --trust-domain/, ["init"]],
      [/--trust-domain/, ["init", "--trust-domain"]],
      [/trust domain/, ["init", "--trust-domain", "Demo Internal", "--dir", join(directory, "other")]],
      [/Unexpected argument "x"/, ["init", "x", "--trust-domain", "d"]],
      [/Missing KIND or NAME/, ["issue", "agent", "--dir", ca]],
      [/Unknown kind "robot"/, ["issue", "robot", "a", "--dir", ca]],
      [/Unexpected argument "b"/, ["issue", "agent", "a", "b", "--dir", ca]],
      [/name/, ["issue", "agent", "a/b", "--dir", ca, "-o", join(directory, "x")]],
      [/DNS label/, ["issue", "relay", "Relay_1", "--dir", ca, "-o", join(directory, "x")]],
      [/--days 0/, ["issue", "agent", "a", "--dir", ca, "--days", "0"]],
      [/--days 1\.5/, ["issue", "agent", "a", "--dir", ca, "--days", "1.5"]],
      [/no such file/, ["issue", "agent", "a", "--dir", join(directory, "nowhere")]],
      [/no such file/, ["show", join(directory, "nothing")]],
      [/either FILE or --dir/, ["show", "x", "--dir", "y"]],
    ];
    for (const [pattern, args] of wrong) {
      const outcome = await run(...args);
      assert.equal(outcome.code, 2, `${args.join(" ")}: ${outcome.stderr}`);
      assertOneLine(outcome, pattern);
    }
    assert.deepEqual([...Deno.readDirSync(directory)].map((entry) => entry.name), ["ca"]);
  }));

Deno.test("ca show says with exit code 1 what makes an identity unusable", () =>
  inDirectory(async (directory) => {
    const ca = join(directory, "ca");
    const file = join(directory, "a.json");
    await run("init", "--trust-domain", "demo.internal", "--dir", ca);
    await run("issue", "agent", "a", "--dir", ca, "-o", file);
    const identity = JSON.parse(await Deno.readTextFile(file));
    await Deno.writeTextFile(file, JSON.stringify({ ...identity, id: "spiffe://demo.internal/agent/b" }));
    const shown = await run("show", file);
    assert.equal(shown.code, 1);
    assert.match(shown.stdout, /status\s+.*its id is not the one in the certificate/);

    await Deno.chmod(file, 0o644);
    const readable = await run("show", file);
    assert.equal(readable.code, 1);
    assertOneLine(readable, new RegExp(`chmod 600 ${file}`));
  }));

Deno.test("ca explains itself everywhere", async () => {
  for (const args of [["--help"], ["-h"], ["init", "--help"], ["issue", "-h"], ["show", "--help"]]) {
    const outcome = await run(...args);
    assert.equal(outcome.code, 0, args.join(" "));
    assert.match(outcome.stdout, /^Usage: ginnel ca/);
    assert.equal(outcome.stderr, "");
  }
  const bare = await run();
  assert.equal(bare.code, 2);
  assert.match(bare.stderr, /^Usage: ginnel ca/);
});

interface Outcome {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

async function run(...args: string[]): Promise<Outcome> {
  let stdout = "";
  let stderr = "";
  const code = await caCommand(args, {
    stdout: (text) => void (stdout += text),
    stderr: (text) => void (stderr += text),
    isTerminal: false,
  });
  return { code, stdout, stderr };
}

function assertOneLine(outcome: Outcome, pattern: RegExp): void {
  assert.match(outcome.stderr, /^ginnel ca: [^\n]+\n$/);
  assert.match(outcome.stderr, pattern);
  assert.equal(outcome.stdout, "");
}

async function inDirectory(test: (directory: string) => Promise<void>): Promise<void> {
  const directory = await Deno.makeTempDir();
  try {
    await test(directory);
  } finally {
    await Deno.remove(directory, { recursive: true });
  }
}
