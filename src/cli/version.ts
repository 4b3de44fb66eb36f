/**
 * `ginnel version`.
 */

import { VERSION } from "../base/version.ts";
import type { CommandIo } from "./ca.ts";
import { execute, EXIT } from "./command.ts";

const HELP = `Usage: ginnel version [--json]

Prints the version of Ginnel; with --json also that of its runtime and the platform.
`;

/** Runs `ginnel version ...` and returns the exit code. */
export function versionCommand(args: string[], io: CommandIo): Promise<number> {
  return execute(
    {
      name: "version",
      help: HELP,
      flags: { json: "switch" },
      run: (flags) => {
        const details = {
          version: VERSION,
          deno: Deno.version.deno,
          platform: `${Deno.build.os}-${Deno.build.arch}`,
        };
        io.stdout(flags.json ? JSON.stringify(details) + "\n" : `ginnel ${VERSION}\n`);
        return Promise.resolve(EXIT.done);
      },
    },
    args,
    io,
  );
}
