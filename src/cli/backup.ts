/** `ginnel backup` and `ginnel restore`: all that a network's controllers keep, in one file. */

import { backupNetwork, restoreNetwork } from "../modes/backup/network_backup.ts";
import type { CommandIo } from "./ca.ts";
import { execute, EXIT, type Flags, requireFlag } from "./command.ts";

const BACKUP_HELP = `Usage: ginnel backup --config FILE --output FILE [--json]

Writes all that a network's controllers keep into one file, mode 0600: identities, services, policies, addresses,
certificates, the audit log. It is the state of one moment; controllers may run and nobody waits.

The CA and the authority are not in it: copy the data folder too, and keep both safe.

  --config FILE    config of a controller, or of a relay with a controller
  -o, --output FILE  where to write; a file of that name is replaced once the new one is whole
  --json           print the result as JSON

Exit codes: 0 done, 1 the database or the file cannot be used, 2 wrong command line or config.
`;

const RESTORE_HELP = `Usage: ginnel restore FILE --config FILE [--force] [--json]

Puts a backup into a controller's database, whole or not at all. The database may be of another kind than the one
the backup is of: so a network moves from SQLite to PostgreSQL. Stop the controllers first.

  FILE           made by ginnel backup
  --config FILE  config of a controller, or of a relay with a controller
  --force        also when the database holds a network, which is lost then
  --json         print the result as JSON

Exit codes: 0 done, 1 the backup is damaged, or the database holds a network or cannot be used, 2 wrong command
line or config.
`;

/** Runs `ginnel backup` and returns the exit code. */
export function backupCommand(args: string[], io: CommandIo): Promise<number> {
  const flags = { config: "text", output: "text", json: "switch" } as const;
  const long = args.map((arg) => arg === "-o" ? "--output" : arg);
  return execute({ name: "backup", help: BACKUP_HELP, flags, run: backup }, long, io);
}

/** Runs `ginnel restore` and returns the exit code. */
export function restoreCommand(args: string[], io: CommandIo): Promise<number> {
  const flags = { config: "text", force: "switch", json: "switch" } as const;
  const [file, rest] = takeFile(args);
  const isHelp = args.includes("--help") || args.includes("-h");
  if (file === undefined && !isHelp) {
    io.stderr("ginnel restore: Missing FILE. Run ginnel restore --help.\n");
    return Promise.resolve(EXIT.usage);
  }
  const run = (given: Flags) => restore(file ?? "", { flags: given, io });
  return execute({ name: "restore", help: RESTORE_HELP, flags, run }, rest, io);
}

async function backup(flags: Flags, io: CommandIo): Promise<number> {
  const config = requireFlag(flags, "config", "FILE");
  const file = requireFlag(flags, "output", "FILE");
  const result = await backupNetwork(config, file);
  if (flags.json === true) {
    io.stdout(toJson({ file, ...result }));
  } else {
    io.stdout(`Wrote ${result.rows} rows of ${result.database} to ${file}, revision ${result.revision}\n`);
    io.stdout(`The CA and the authority are not in it: copy ${result.data} too\n`);
  }
  return EXIT.done;
}

async function restore(
  file: string,
  { flags, io }: { readonly flags: Flags; readonly io: CommandIo },
): Promise<number> {
  const config = requireFlag(flags, "config", "FILE");
  const result = await restoreNetwork(config, file, { force: flags.force === true });
  if (flags.json === true) io.stdout(toJson({ file, ...result }));
  else io.stdout(`Restored ${result.rows} rows of ${result.createdAt} into ${result.database}\n`);
  return EXIT.done;
}

/** The first argument that is neither a flag nor a flag's value. */
function takeFile(args: readonly string[]): [string | undefined, string[]] {
  const at = args.findIndex((arg, i) => !arg.startsWith("-") && args[i - 1] !== "--config");
  return at < 0 ? [undefined, [...args]] : [args[at], args.toSpliced(at, 1)];
}

function toJson(value: object): string {
  return JSON.stringify(value, undefined, 2) + "\n";
}
