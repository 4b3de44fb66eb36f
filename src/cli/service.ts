/**
 * `ginnel service`: runs a node by systemd, and takes it off the machine again without a trace.
 */

import { GinnelError } from "../base/errors.ts";
import type { Config } from "../config/parse_config.ts";
import { ServiceManager } from "../modes/service/installation.ts";
import type { CommandIo } from "./ca.ts";
import { type CommandSpec, execute, EXIT, type Flags, requireFlag, UsageError } from "./command.ts";
import { ownFile } from "./own_program.ts";

const HELP = `Usage: ginnel service install --config FILE [--now] [--program FILE] [--root DIR]
       ginnel service uninstall [--mode MODE] [--purge] [--root DIR]
       ginnel service show --config FILE [--program FILE]

Runs the node that a config describes by systemd, as a user without rights that exists only while it runs.

install    copies the config, and every file it names, to /var/lib/private/ginnel-MODE, and writes the unit
           /etc/systemd/system/ginnel-MODE.service
uninstall  stops the node and removes unit, folders and what it set up. The folder of a relay or controller,
           with CA and database, is kept unless --purge is given
show       prints the unit

  --config FILE   the node's config file
  --now           start the node, now and at every boot
  --program FILE  the program the unit starts; default this one, or /usr/local/bin/ginnel where it runs from
                  source or lies in a home or temporary folder, which the unit cannot see
  --mode MODE     agent, connector, relay or controller; default the one that is installed
  --purge         remove a relay's or controller's folder too
  --root DIR      work on the system below DIR, which does not run

Exit codes: 0 done, 1 failed, 2 wrong command line or config.
`;

const MODES = ["agent", "connector", "relay", "controller"] as const;
const DEFAULT_PROGRAM = "/usr/local/bin/ginnel";

/** systemd would read blanks, quotes, % and $ in its own way. */
const PLAIN_PATH = /^\/[A-Za-z0-9._/+-]+$/;

/** The units have neither homes nor the machine's temporary files. */
const HIDDEN_FROM_UNITS = /^\/(?:home|root|run\/user|tmp|var\/tmp)\//;

const COMMANDS: Readonly<Record<string, Omit<CommandSpec, "name" | "help">>> = {
  install: { flags: { config: "text", now: "switch", program: "text", root: "text" }, run: install },
  uninstall: { flags: { mode: "text", purge: "switch", root: "text" }, run: uninstall },
  show: { flags: { config: "text", program: "text" }, run: show },
};

/** Runs `ginnel service ...` and returns the exit code. */
export function serviceCommand(args: string[], io: CommandIo): Promise<number> {
  const [word = "", ...rest] = args;
  const command = Object.hasOwn(COMMANDS, word) ? COMMANDS[word] : undefined;
  if (command !== undefined) return execute({ name: `service ${word}`, help: HELP, ...command }, rest, io);
  if (word === "--help" || word === "-h") {
    io.stdout(HELP);
    return Promise.resolve(EXIT.done);
  }
  io.stderr("ginnel service: Expected install, uninstall or show. Run ginnel service --help.\n");
  return Promise.resolve(EXIT.usage);
}

async function install(flags: Flags, io: CommandIo): Promise<number> {
  const { mode, unit, home } = await managerOf(flags).install({
    config: requireFlag(flags, "config", "FILE"),
    program: await programOf(flags),
    now: flags.now === true,
  });
  const name = `ginnel-${mode}`;
  io.stdout(`Installed ${unit}\nConfig and keys are now ${home}; change them there\n`);
  if (flags.now !== true) io.stdout(`Start it, now and at every boot: systemctl enable --now ${name}\n`);
  return EXIT.done;
}

async function uninstall(flags: Flags, io: CommandIo): Promise<number> {
  const manager = managerOf(flags);
  const mode = flags.mode === undefined ? await onlyMode(manager) : MODES.find((mode) => mode === flags.mode);
  if (mode === undefined) throw new UsageError(`--mode is none of ${MODES.join(", ")}`);
  const kept = await manager.uninstall(mode, { purge: flags.purge === true });
  io.stdout(`Removed ginnel-${mode}\n`);
  if (kept !== undefined) {
    io.stdout(`Kept ${kept}, which holds what cannot be had again; --purge removes it\n`);
  }
  return EXIT.done;
}

async function show(flags: Flags, io: CommandIo): Promise<number> {
  io.stdout(
    await managerOf(flags).show({
      config: requireFlag(flags, "config", "FILE"),
      program: await programOf(flags),
    }),
  );
  return EXIT.done;
}

async function onlyMode(manager: ServiceManager): Promise<Config["mode"]> {
  const [mode, ...more] = await manager.installed();
  if (mode === undefined) throw new GinnelError("ERR_SERVICE_UNKNOWN", "No node is installed here");
  if (more.length > 0) {
    throw new UsageError(`Several nodes are installed: give --mode ${[mode, ...more].join(" or ")}`);
  }
  return mode;
}

function managerOf({ root = "/" }: Flags): ServiceManager {
  if (typeof root !== "string" || !root.startsWith("/")) throw new UsageError("--root is no absolute path");
  return new ServiceManager(root);
}

/** The program for the unit: the one that is asked for, else this one where a unit can start it. */
async function programOf({ program }: Flags): Promise<string> {
  if (typeof program === "string") {
    if (PLAIN_PATH.test(program)) return program;
    throw new UsageError(`--program ${program} is no plain absolute path`);
  }
  const own = ownFile();
  if (own !== undefined && PLAIN_PATH.test(own) && !HIDDEN_FROM_UNITS.test(own)) return own;
  try {
    await Deno.stat(DEFAULT_PROGRAM);
  } catch (cause) {
    const where = own === undefined ? "" : `: no unit can start ${own}`;
    throw new GinnelError("ERR_SERVICE_PROGRAM", `There is no ${DEFAULT_PROGRAM}${where}`, {
      cause,
      hint: "Copy the program there, or give --program FILE",
    });
  }
  return DEFAULT_PROGRAM;
}
