/**
 * The command line: finds the command, gives help, and turns mistakes into one clear line and exit code 2.
 */

import { VERSION } from "../base/version.ts";
import { closest } from "../config/closest.ts";
import type { CommandIo } from "./ca.ts";
import { EXIT } from "./command.ts";
import { processIo } from "./process_io.ts";
import { untilStopped } from "./stop_signal.ts";
import { versionCommand } from "./version.ts";

const HELP = `Ginnel ${VERSION}: private access to services that have no open port

Usage: ginnel COMMAND [FLAGS]

Commands:
  run      start the relay, connector or agent that a config file describes, or an agent with all defaults
  status   say how the agent or connector that runs here is, and how each of its services is
  check    say whether a config file and all it names are right, without starting anything
  doctor   look for what keeps this machine from working well, and say what to do
  enroll   turn an administrator's one-time token into an identity file
  identity list, show, validate or reset the identity files of this machine
  ca       make and inspect a network's identities: init, issue, show, rotate
  leases   list the tunnel addresses that a relay has given, or take one back
  backup   write all that a network's controllers keep into one file; restore puts it back
  audit    verify the audit log of a network, and look things up in it
  api      make one request to a controller's API
  login    get a user's identity from an OpenID provider; logout ends it
  service  install a node as a service of systemd, or take it off the machine again
  dev      try a whole network on this machine
  version  print the version

Run ginnel COMMAND --help for a command's flags.
`;

type Command = (args: string[], io: CommandIo) => Promise<number>;

/** Each command loads its modules when it is called: reading all of them takes longer than most commands. */
const COMMANDS: ReadonlyMap<string, Command> = new Map<string, Command>([
  ["run", async (args, io) => await (await import("./run.ts")).runCommand(args, io)],
  ["status", async (args, io) => await (await import("./status.ts")).statusCommand(args, io)],
  ["check", async (args, io) => await (await import("./check.ts")).checkCommand(args, io)],
  ["doctor", async (args, io) => await (await import("./doctor.ts")).doctorCommand(args, io)],
  ["ca", async (args, io) => await (await import("./ca.ts")).caCommand(args, io)],
  ["enroll", async (args, io) => await (await import("./enroll.ts")).enrollCommand(args, io)],
  ["identity", async (args, io) => await (await import("./identity.ts")).identityCommand(args, io)],
  ["leases", async (args, io) => await (await import("./leases.ts")).leasesCommand(args, io)],
  ["login", async (args, io) => await (await import("./login.ts")).loginCommand(args, io)],
  ["logout", async (args, io) => await (await import("./logout.ts")).logoutCommand(args, io)],
  ["backup", async (args, io) => await (await import("./backup.ts")).backupCommand(args, io)],
  ["restore", async (args, io) => await (await import("./backup.ts")).restoreCommand(args, io)],
  ["audit", async (args, io) => await (await import("./audit.ts")).auditCommand(args, io)],
  ["api", async (args, io) => await (await import("./api.ts")).apiCommand(args, io)],
  ["service", async (args, io) => await (await import("./service.ts")).serviceCommand(args, io)],
  ["dev", async (args, io) => await (await import("./dev/dev.ts")).devCommand(args, io, untilStopped)],
  ["version", versionCommand],
]);

/** Runs the command line and returns the exit code: 0 done, 1 failed, 2 wrong command line or config. */
export async function main(args: readonly string[], io: CommandIo = processIo()): Promise<number> {
  const [word, ...rest] = args;
  if (word === undefined) {
    io.stderr(HELP);
    return EXIT.usage;
  }
  if (word === "--help" || word === "-h" || word === "help") {
    const topic = word === "help" ? COMMANDS.get(rest[0] ?? "") : undefined;
    if (topic !== undefined) return await topic(["--help"], io);
    io.stdout(HELP);
    return EXIT.done;
  }
  if (word === "--version" || word === "-V") return await versionCommand(rest, io);
  const command = COMMANDS.get(word);
  if (command !== undefined) return await command(rest, io);
  const kind = word.startsWith("-") ? "flag" : "command";
  const near = closest(word, [...COMMANDS.keys()]);
  const guess = near === undefined ? "" : ` (did you mean ${near}?)`;
  io.stderr(`ginnel: Unknown ${kind} ${JSON.stringify(word)}${guess}. Run ginnel --help.\n`);
  return EXIT.usage;
}
