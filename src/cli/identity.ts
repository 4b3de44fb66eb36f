/** `ginnel identity`: the identity files of this machine: list, show, validate, reset. */

import { errorMessage, GinnelError } from "../base/errors.ts";
import type { Identity } from "../identity/identity_file.ts";
import { fetchOwnServices, type OwnServices } from "../modes/enrol/own_services.ts";
import { fetchTrust, writeTrust } from "../modes/enrol/network_trust.ts";
import { findIdentities, type FoundIdentity, judgeIdentity } from "../modes/enrol/identity_folder.ts";
import type { CommandIo } from "./ca.ts";
import { execute, EXIT, type Flags, UsageError } from "./command.ts";

const HELP = `Usage: ginnel identity list [--dir DIR] [--json]
       ginnel identity show FILE [--json]
       ginnel identity validate FILE [--json]
       ginnel identity trust FILE [-o TRUST]
       ginnel identity reset FILE --yes
       ginnel identity reset --all [--dir DIR] --yes

Looks after the identity files of this machine.

  list      identity files of a folder, and what is wrong with those that cannot be used
  show      who it is, until when, what it knows of the network, and the services a controller says it may reach
  validate  checks the whole file: shape, key, certificate, trust, times, and that only its owner can read it
  trust     asks a controller what the network trusts now: the trust file that nodes with an SVID need
  reset     removes identity files; enrol again to get new ones

  --dir DIR  the folder (default .)
  --all      every identity file of the folder, broken ones too
  --yes      really remove them
  -o TRUST   the trust file to write (default: standard output); it holds nothing secret
  --json     print the result as JSON

Exit codes: 0 done, 1 an identity cannot be used, 2 wrong command line.
`;

/** What a subcommand gets. */
interface Call {
  readonly file: string | undefined;
  readonly flags: Flags;
  readonly io: CommandIo;
}

/** One subcommand. */
interface Subcommand {
  readonly flags: Readonly<Record<string, "text" | "switch">>;
  readonly takesFile: "must" | "may" | "never";
  readonly run: (call: Call) => Promise<number>;
}

const SUBCOMMANDS: ReadonlyMap<string, Subcommand> = new Map<string, Subcommand>([
  ["list", { flags: { dir: "text", json: "switch" }, takesFile: "never", run: list }],
  ["show", { flags: { json: "switch" }, takesFile: "must", run: show }],
  ["validate", { flags: { json: "switch" }, takesFile: "must", run: validate }],
  ["trust", { flags: { output: "text" }, takesFile: "must", run: trust }],
  ["reset", { flags: { dir: "text", all: "switch", yes: "switch" }, takesFile: "may", run: reset }],
]);

/** Runs `ginnel identity ...` and returns the exit code. */
export function identityCommand(args: string[], io: CommandIo): Promise<number> {
  const [word, ...rest] = args;
  const subcommand = SUBCOMMANDS.get(word ?? "");
  if (subcommand === undefined) {
    const isHelp = word === "--help" || word === "-h";
    const run = () => Promise.reject(new UsageError("Give one of list, show, validate, trust, reset"));
    return execute({ name: "identity", help: HELP, flags: {}, run }, isHelp ? ["--help"] : [], io);
  }
  const hasFile = rest[0] !== undefined && !rest[0].startsWith("-") && subcommand.takesFile !== "never";
  const file = hasFile ? rest[0] : undefined;
  const run = (flags: Flags) => {
    if (file === undefined && subcommand.takesFile === "must") throw new UsageError("Missing FILE");
    return subcommand.run({ file, flags, io });
  };
  const spec = { name: `identity ${word}`, help: HELP, flags: subcommand.flags, run };
  const given = (hasFile ? rest.slice(1) : rest).map((arg) => arg === "-o" ? "--output" : arg);
  return execute(spec, given, io);
}

async function list({ flags, io }: Call): Promise<number> {
  const folder = folderOf(flags);
  const found = await findIn(folder);
  if (flags.json === true) io.stdout(toJson({ folder, identities: found.map(describe) }));
  else if (found.length === 0) io.stdout(`No identity files in ${folder}\n`);
  else io.stdout(formatTable(found));
  return EXIT.done;
}

async function show({ file, flags, io }: Call): Promise<number> {
  const found = await judgeIdentity(file!, Date.now());
  if ("fault" in found) {
    io.stderr(`ginnel identity show: ${found.fault}\n`);
    return EXIT.failed;
  }
  const services = await askServices(found.identity);
  io.stdout(
    flags.json === true
      ? toJson({ ...details(found.path, found.identity), services })
      : formatDetails(found) + formatServices(services),
  );
  return EXIT.done;
}

/** What a controller says now; the file is worth showing without that, too. */
async function askServices(identity: Identity): Promise<OwnServices | { readonly unknown: string } | null> {
  try {
    return await fetchOwnServices(identity) ?? null;
  } catch (error) {
    return { unknown: errorMessage(error) };
  }
}

function formatServices(services: Awaited<ReturnType<typeof askServices>>): string {
  if (services === null) return "";
  if ("unknown" in services) return `services    unknown: ${services.unknown}\n`;
  const list = (names: readonly string[]) => names.length === 0 ? "none" : names.join(", ");
  return `may reach   ${list(services.dial)}\nmay offer   ${list(services.bind)}\n`;
}

async function validate({ file, flags, io }: Call): Promise<number> {
  const found = await judgeIdentity(file!, Date.now());
  const isGood = "identity" in found;
  if (flags.json === true) io.stdout(toJson(describe(found)));
  else if (isGood) {
    io.stdout(
      `${found.path} is valid: ${found.identity.id.uri} until ${toMinute(found.identity.notAfter)}\n`,
    );
  } else io.stderr(`ginnel identity validate: ${found.fault}\n`);
  return isGood ? EXIT.done : EXIT.failed;
}

async function trust({ file, flags, io }: Call): Promise<number> {
  const text = await fetchTrust(file!);
  if (typeof flags.output === "string") await writeTrust(flags.output, text);
  else io.stdout(text);
  return EXIT.done;
}

async function reset({ file, flags, io }: Call): Promise<number> {
  if ((file !== undefined) === (flags.all === true)) throw new UsageError("Give either FILE or --all");
  if (file !== undefined && flags.dir !== undefined) throw new UsageError("--dir goes with --all only");
  const paths = file === undefined ? (await findIn(folderOf(flags))).map(({ path }) => path) : [file];
  if (flags.yes !== true) {
    const what = paths.length === 0 ? "nothing" : paths.join(", ");
    throw new UsageError(`This removes ${what} for good: add --yes to do it`);
  }
  for (const path of paths) {
    await remove(path);
    io.stdout(`Removed ${path}\n`);
  }
  if (paths.length === 0) io.stdout("No identity files to remove\n");
  return EXIT.done;
}

async function remove(path: string): Promise<void> {
  try {
    await Deno.remove(path);
  } catch (cause) {
    throw new GinnelError("ERR_IDENTITY_NOT_REMOVED", `Cannot remove ${path}`, {
      cause,
      hint: "Check that it is there and that its folder can be written",
    });
  }
}

async function findIn(folder: string): Promise<readonly FoundIdentity[]> {
  try {
    return await findIdentities(folder, Date.now());
  } catch (error) {
    if (error instanceof Deno.errors.NotFound || error instanceof Deno.errors.NotADirectory) {
      throw new UsageError(`There is no folder ${folder}`);
    }
    throw error;
  }
}

function folderOf({ dir }: Flags): string {
  return typeof dir === "string" ? dir : ".";
}

/** An identity in a list. */
function describe(found: FoundIdentity): Readonly<Record<string, unknown>> {
  if ("fault" in found) return { file: found.path, usable: false, status: found.fault };
  const { id, notAfter } = found.identity;
  return {
    file: found.path,
    usable: true,
    status: "valid",
    id: id.uri,
    expires: new Date(notAfter).toISOString(),
  };
}

/** All that may be shown of an identity: nothing secret. */
function details(path: string, { id, notAfter, trust, network }: Identity) {
  return {
    file: path,
    name: id.name,
    kind: id.kind,
    id: id.uri,
    expires: new Date(notAfter).toISOString(),
    controllers: network?.controllers ?? [],
    relays: network?.relays ?? [],
    trust: {
      domain: trust.domain,
      roots: trust.roots.length,
      authorities: trust.authorities.map(({ kid }) => kid),
      foreign: trust.foreign.map(({ domain }) => domain),
    },
    revision: network?.rev ?? null,
  };
}

function formatDetails({ path, identity }: Extract<FoundIdentity, { identity: Identity }>): string {
  const { name, kind, id, controllers, relays, trust, revision } = details(path, identity);
  const rows: (readonly [string, string])[] = [
    ["file", path],
    ["name", name],
    ["kind", kind],
    ["id", id],
    ["expires", toMinute(identity.notAfter)],
    ...controllers.map(({ name, url }) => ["controller", `${name} at ${url}`] as const),
    ...relays.map(({ name, address }) => ["relay", `${name} at ${address}`] as const),
    ["trusts", `${trust.roots} CA(s) of ${trust.domain}`],
    ...trust.foreign.map((domain) => ["trusts", `foreign domain ${domain}`] as const),
    ...(revision === null ? [] : [["revision", String(revision)] as const]),
  ];
  return rows.map(([label, value]) => `${label.padEnd(12)}${value}\n`).join("");
}

function formatTable(found: readonly FoundIdentity[]): string {
  const rows = [
    ["FILE", "IDENTITY", "EXPIRES"],
    ...found.map((entry) =>
      "identity" in entry
        ? [entry.path, entry.identity.id.uri, toMinute(entry.identity.notAfter)]
        : [entry.path, `unusable: ${entry.fault}`, ""]
    ),
  ];
  const widths = [0, 1].map((column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows.map((row) =>
    `${row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join("  ").trimEnd()}\n`
  )
    .join("");
}

function toMinute(time: number): string {
  return `${new Date(time).toISOString().slice(0, 16).replace("T", " ")}Z`;
}

function toJson(value: object): string {
  return JSON.stringify(value, undefined, 2) + "\n";
}
