/** `ginnel enroll` and `ginnel identity` against a real controller, and files that are broken in every way. */

import assert from "node:assert/strict";
import { join } from "node:path";
import { enrollCommand } from "../../src/cli/enroll.ts";
import { identityCommand } from "../../src/cli/identity.ts";
import { loadIdentity } from "../../src/identity/identity_file.ts";
import { EnrolmentGround } from "../support/enrolment_ground.ts";
import { Printed } from "./demo_folder.ts";

interface Outcome {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

Deno.test("enroll writes an identity file from a token file and prints neither token nor key", () =>
  inFolder(async (folder, ground) => {
    const token = await ground.token(await ground.addIdentity("alice"));
    const file = join(folder, "token");
    await Deno.writeTextFile(file, `${token}\n`);
    const path = join(folder, "alice.json");
    const done = await run(enrollCommand, "--token-file", file, "-o", path);
    assert.equal(done.code, 0, done.err);
    assert.match(done.out, /Enrolled spiffe:\/\/example\.internal\/agent\/alice, valid until /);
    const { privateKeyPem } = await loadIdentity(path);
    for (const secret of [token.split(".")[2]!, privateKeyPem.split("\n")[1]!]) {
      assert.ok(!(done.out + done.err).includes(secret));
    }
    const again = await run(enrollCommand, token, "-o", join(folder, "again.json"));
    assert.deepEqual([again.code, again.out], [1, ""]);
    assert.match(
      again.err,
      /^ginnel enroll: controller-1 gives no certificate: The token was used already: ask/,
    );
    assert.ok(!again.err.includes(token));
  }));

Deno.test("enroll takes the token as a word too, and reports as JSON", () =>
  inFolder(async (folder, ground) => {
    const token = await ground.token(await ground.addIdentity("alice"));
    const path = join(folder, "alice.json");
    const done = await run(enrollCommand, token, "--output", path, "--json");
    assert.equal(done.code, 0, done.err);
    const { notAfter, ...rest } = JSON.parse(done.out);
    assert.deepEqual(rest, {
      id: "spiffe://example.internal/agent/alice",
      file: path,
      relays: ["relay-1"],
    });
    assert.ok(Date.parse(notAfter) > Date.now());
  }));

Deno.test("enroll refuses a wrong command line and a token that cannot be one, without quoting it", () =>
  inFolder(async (folder, ground) => {
    const token = await ground.token(await ground.addIdentity("alice"));
    const wrong: [string[], RegExp][] = [
      [[], /Give either TOKEN or --token-file/],
      [[token, "--token-file", "x"], /Give either TOKEN or --token-file/],
      [[token, "-o", "a", "--name", "b"], /Give either -o or --name/],
      [[token, "--name", "../etc/x"], /--name may contain only/],
      [[token, "--nam", "x"], /did you mean --name/],
      [["--token-file", join(folder, "nothing")], /there is no such file/],
      [[token.slice(0, 100)], /not an enrolment token, or not all of one/],
      [[token.split(".").slice(0, 2).join(".")], /not an enrolment token, or not all of one/],
    ];
    for (const [args, says] of wrong) {
      const { code, out, err } = await run(enrollCommand, ...args);
      assert.deepEqual([code, out], [2, ""], err);
      assert.match(err, says);
      assert.ok(!err.includes(token.slice(0, 60)), err);
    }
    assert.equal((await run(enrollCommand, "--help")).code, 0);
  }));

Deno.test("identity lists good and broken files of a folder and leaves configs alone", () =>
  inFolder(async (folder, ground) => {
    await enrolled(folder, ground, "alice.json");
    await Deno.writeTextFile(join(folder, "agent.json"), `{"mode": "agent"}`);
    await Deno.writeTextFile(join(folder, "notes.txt"), "");
    await Deno.writeTextFile(join(folder, "bob.identity.json"), "{", { mode: 0o600 });
    const { code, out } = await run(identityCommand, "list", "--dir", folder);
    assert.equal(code, 0);
    assert.match(out, /alice\.json\s+spiffe:\/\/example\.internal\/agent\/alice\s+\d{4}-/);
    assert.match(out, /bob\.identity\.json\s+unusable: /);
    assert.doesNotMatch(out, /agent\.json|notes/);
    const { identities } = JSON.parse((await run(identityCommand, "list", "--dir", folder, "--json")).out);
    assert.deepEqual(identities.map(({ usable }: { usable: boolean }) => usable), [true, false]);
    const empty = await run(identityCommand, "list", "--dir", join(folder, "nowhere"));
    assert.equal(empty.code, 2);
  }));

Deno.test("identity show tells name, controller and expiry, and nothing secret", () =>
  inFolder(async (folder, ground) => {
    const path = await enrolled(folder, ground, "alice.json");
    const { code, out } = await run(identityCommand, "show", path);
    assert.equal(code, 0);
    for (
      const line of [
        /name +alice/,
        /controller +controller-1 at https:/,
        /expires +\d{4}-/,
        /relay +relay-1 at/,
      ]
    ) {
      assert.match(out, line);
    }
    const shown = JSON.parse((await run(identityCommand, "show", path, "--json")).out);
    assert.equal(shown.name, "alice");
    assert.deepEqual(shown.controllers, ground.controllers);
    // The controller is asked as the identity, and of nobody else.
    assert.deepEqual(shown.services, { dial: [`of ${shown.id}`], bind: [] });
    assert.match(out, /^may reach {3}of spiffe:.*\nmay offer {3}none$/m);
    assert.doesNotMatch(out + JSON.stringify(shown), /PRIVATE/);
  }));

Deno.test("identity validate finds every corruption", () =>
  inFolder(async (folder, ground) => {
    const path = await enrolled(folder, ground, "alice.json");
    const text = await Deno.readTextFile(path);
    const other = JSON.parse(await Deno.readTextFile(await enrolled(folder, ground, "bob.json")));
    assert.equal((await run(identityCommand, "validate", path)).code, 0);
    const file = JSON.parse(text);
    const broken: Record<string, string> = {
      "cut off": text.slice(0, -20),
      "empty": "",
      "another's key": JSON.stringify({ ...file, privateKey: other.privateKey }),
      "another's certificate": JSON.stringify({ ...file, certificate: other.certificate }),
      "another's id": JSON.stringify({ ...file, id: other.id }),
      "no trust": JSON.stringify({ ...file, trust: undefined }),
      "another network": JSON.stringify({ ...file, trust: { ...file.trust, domain: "other.internal" } }),
      "a broken network section": JSON.stringify({ ...file, network: { ...file.network, rev: -1 } }),
      "a controller without TLS": JSON.stringify({
        ...file,
        network: { ...file.network, controllers: [{ name: "c", url: "http://c" }] },
      }),
      "an unknown field": JSON.stringify({ ...file, colour: "red" }),
    };
    for (const [what, content] of Object.entries(broken)) {
      await Deno.writeTextFile(path, content);
      const { code, out, err } = await run(identityCommand, "validate", path);
      assert.deepEqual([code, out], [1, ""], what);
      assert.match(err, /^ginnel identity validate: /);
      assert.ok(!err.includes(file.privateKey.split("\n")[1]), what);
    }
    await Deno.writeTextFile(path, text);
    await Deno.chmod(path, 0o644);
    assert.match((await run(identityCommand, "validate", path)).err, /mode 0644/);
    assert.equal((await run(identityCommand, "validate", join(folder, "nothing"))).code, 1);
  }));

Deno.test("identity reset removes only when told so twice, and only identities", () =>
  inFolder(async (folder, ground) => {
    const alice = await enrolled(folder, ground, "alice.json");
    const bob = await enrolled(folder, ground, "bob.json");
    const config = join(folder, "agent.json");
    await Deno.writeTextFile(config, `{"mode": "agent"}`);
    const names = () => [...Deno.readDirSync(folder)].map(({ name }) => name).sort();
    const before = names();
    for (const args of [[alice], ["--all", "--dir", folder], [], [alice, "--all", "--yes"]]) {
      assert.equal((await run(identityCommand, "reset", ...args)).code, 2, args.join(" "));
      assert.deepEqual(names(), before);
    }
    assert.equal((await run(identityCommand, "reset", bob, "--yes")).code, 0);
    assert.deepEqual(names(), ["agent.json", "alice.json"]);
    const all = await run(identityCommand, "reset", "--all", "--dir", folder, "--yes");
    assert.deepEqual([all.code, all.out], [0, `Removed ${alice}\n`]);
    assert.deepEqual(names(), ["agent.json"]);
    assert.equal((await run(identityCommand, "reset", bob, "--yes")).code, 1);
  }));

Deno.test("identity says what it takes", async () => {
  assert.equal((await run(identityCommand)).code, 2);
  assert.equal((await run(identityCommand, "shwo")).code, 2);
  assert.equal((await run(identityCommand, "show")).code, 2);
  const help = await run(identityCommand, "--help");
  assert.equal(help.code, 0);
  assert.match(help.out, /Usage: ginnel identity list/);
});

async function enrolled(folder: string, ground: EnrolmentGround, file: string): Promise<string> {
  const path = join(folder, file);
  const token = await ground.token(await ground.addIdentity(file.split(".")[0]!));
  const { code, err } = await run(enrollCommand, token, "-o", path);
  assert.equal(code, 0, err);
  return path;
}

async function run(
  command: (args: string[], io: Printed) => Promise<number>,
  ...args: string[]
): Promise<Outcome> {
  const io = new Printed();
  const code = await command(args, io);
  return { code, out: io.out, err: io.err };
}

async function inFolder(test: (folder: string, ground: EnrolmentGround) => Promise<void>): Promise<void> {
  await using ground = await EnrolmentGround.open();
  const folder = await Deno.makeTempDir();
  try {
    await ground.serve();
    await test(folder, ground);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}
