/**
 * `ginnel check`: says whether a config file and all it names are right, without starting anything.
 */

import type { CommandIo } from "./ca.ts";
import { execute, EXIT, type Flags, requireFlag } from "./command.ts";
import { inspectConfig } from "./inspect_config.ts";
import { printFindings, worst } from "./report.ts";

const HELP = `Usage: ginnel check --config FILE [--json]

Reads FILE and all it names (identity, policy, egress policy, authority key, leases) as ginnel run would, and starts nothing.

  --config FILE  the config file, JSON
  --json         print the result as JSON

Exit codes: 0 everything is right, 2 something must be mended first.
`;

/** Runs `ginnel check ...` and returns the exit code. */
export function checkCommand(args: string[], io: CommandIo): Promise<number> {
  return execute(
    { name: "check", help: HELP, flags: { config: "text", json: "switch" }, run: check },
    args,
    io,
  );
}

async function check(flags: Flags, io: CommandIo): Promise<number> {
  const { findings } = await inspectConfig(requireFlag(flags, "config", "FILE"), Date.now());
  printFindings(findings, { io, json: flags.json === true });
  return worst(findings) === "fail" ? EXIT.usage : EXIT.done;
}
