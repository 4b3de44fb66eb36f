/** How flags and their values are told apart. */

import assert from "node:assert/strict";
import { execute, type Flags } from "../../src/cli/command.ts";

Deno.test("a value may begin with hyphens, as one fingerprint in 64 does; a flag is no value", async () => {
  const rows: [string[], Flags | string][] = [
    [["--hash", "-_bcDEF-0123"], { hash: "-_bcDEF-0123" }],
    [["--hash", "--Abc"], { hash: "--Abc" }],
    [["--hash", "-1"], { hash: "-1" }],
    [["--hash=-o"], { hash: "-o" }],
    [["--hash", "-0-", "--json"], { hash: "-0-", json: true }],
    [["--hash", "-h"], "--hash needs a value"],
    [["--hash", "--json"], "--hash needs a value"],
    [["--hash", "--other=1"], "--hash needs a value"],
  ];
  for (const [args, expected] of rows) {
    let found: Flags | undefined;
    let err = "";
    const spec = {
      name: "test",
      help: "",
      flags: { hash: "text", json: "switch" } as const,
      run: (flags: Flags) => {
        found = { ...flags };
        return Promise.resolve(0);
      },
    };
    const io = { stdout: () => {}, stderr: (text: string) => void (err += text), isTerminal: false };
    const code = await execute(spec, args, io);
    if (typeof expected === "string") {
      assert.deepEqual([code, err], [2, `ginnel test: ${expected}. Run ginnel test --help.\n`]);
    } else assert.deepEqual([code, found, err], [0, expected, ""], args.join(" "));
  }
});
