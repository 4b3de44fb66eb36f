import assert from "node:assert/strict";
import type { CommandIo } from "../../src/cli/ca.ts";
import { main } from "../../src/cli/main.ts";
import { VERSION } from "../../src/base/version.ts";

interface Outcome {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

async function ginnel(...args: string[]): Promise<Outcome> {
  let out = "";
  let err = "";
  const io: CommandIo = {
    stdout: (text) => void (out += text),
    stderr: (text) => void (err += text),
    isTerminal: false,
  };
  const code = await main(args, io);
  return { code, out, err };
}

const COMMANDS = ["run", "check", "doctor", "ca", "leases", "dev", "version"];

Deno.test("without a command the help goes to standard error, exit code 2", async () => {
  const { code, out, err } = await ginnel();
  assert.deepEqual([code, out], [2, ""]);
  assert.match(err, /Usage: ginnel COMMAND/);
});

Deno.test("--help works everywhere, exit code 0, and the main help lists every command", async () => {
  const { code, out } = await ginnel("--help");
  assert.equal(code, 0);
  for (const command of COMMANDS) {
    assert.match(out, new RegExp(`^  ${command} `, "m"));
    for (const words of [[command, "--help"], [command, "-h"], ["help", command]]) {
      const help = await ginnel(...words);
      assert.deepEqual([help.code, help.err], [0, ""], words.join(" "));
      assert.match(help.out, new RegExp(`^Usage: ginnel ${command}`), words.join(" "));
    }
  }
});

Deno.test("mistakes on the command line get one line and exit code 2", async () => {
  const rows: [string[], string][] = [
    [["rnu"], 'ginnel: Unknown command "rnu" (did you mean run?). Run ginnel --help.'],
    [["--bogus"], 'ginnel: Unknown flag "--bogus". Run ginnel --help.'],
    [["check"], "ginnel check: Missing --config FILE. Run ginnel check --help."],
    [
      ["run", "--config", "a", "--identity", "b"],
      "ginnel run: Give either --config or --identity, not both. Run ginnel run --help.",
    ],
    [["run", "--config"], "ginnel run: --config needs a value. Run ginnel run --help."],
    [["run", "--config="], "ginnel run: --config needs a value. Run ginnel run --help."],
    [["run", "--config", "--json"], "ginnel run: --config needs a value. Run ginnel run --help."],
    [
      ["run", "--confg", "x"],
      "ginnel run: Unknown flag --confg (did you mean --config?). Run ginnel run --help.",
    ],
    [
      ["run", "--config", "a", "--config", "b"],
      "ginnel run: --config is given twice. Run ginnel run --help.",
    ],
    [["run", "a.json"], 'ginnel run: Unexpected argument "a.json". Run ginnel run --help.'],
    [["run", "--", "a.json"], 'ginnel run: Unexpected argument "a.json". Run ginnel run --help.'],
    [["version", "-x"], "ginnel version: Unknown flag -x. Run ginnel version --help."],
    [["version", "--json=yes"], "ginnel version: --json takes no value. Run ginnel version --help."],
    [["check", "--constructor"], "ginnel check: Unknown flag --constructor. Run ginnel check --help."],
    [["run", "--config", "/nowhere/a.json"], "/nowhere/a.json: no such file"],
  ];
  for (const [args, line] of rows) {
    assert.deepEqual(await ginnel(...args), { code: 2, out: "", err: `${line}\n` }, args.join(" "));
  }
});

Deno.test("version says what deno.json says", async () => {
  const manifest = JSON.parse(await Deno.readTextFile(new URL("../../deno.json", import.meta.url)));
  assert.equal(VERSION, manifest.version);
  assert.deepEqual(await ginnel("version"), { code: 0, out: `ginnel ${VERSION}\n`, err: "" });
  assert.deepEqual(await ginnel("--version"), { code: 0, out: `ginnel ${VERSION}\n`, err: "" });
  assert.equal(JSON.parse((await ginnel("version", "--json")).out).version, VERSION);
});

Deno.test("run names file, field and value of every config problem, exit code 2", async () => {
  const file = await Deno.makeTempFile({ suffix: ".json" });
  await Deno.writeTextFile(
    file,
    JSON.stringify({ mode: "agent", identity: "a.json", relays: 7, sock5: "x" }),
  );
  const { code, err } = await ginnel("run", "--config", file);
  assert.equal(code, 2);
  assert.ok(err.split("\n").every((line) => line === "" || line.startsWith(file)), err);
  assert.match(err, /sock5/);
  assert.match(err, /relays/);
});
