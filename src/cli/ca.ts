/**
 * `ginnel ca`: the offline certificate authority on the command line. Prints paths and public facts only,
 * never a key.
 */

import { parseArgs, type ParseArgsOptionsConfig } from "node:util";
import { errorMessage, GinnelError } from "../base/errors.ts";
import { caPaths, createCaDirectory, openCaDirectory } from "../identity/ca_directory.ts";
import { issueIdentity } from "../identity/issue_identity.ts";
import { MAX_DAYS } from "../identity/pki.ts";
import { writeSecretFile } from "../identity/secret_file.ts";
import { IDENTITY_KINDS, isIdentityKind } from "../identity/spiffe_id.ts";
import { isRotateStep, ROTATE_HELP, ROTATE_STEPS, rotateCa } from "./ca_rotate.ts";
import { describeCa, describeFile, formatDescription } from "./ca_show.ts";

/** Where a command prints; the callbacks take whole texts, newline included. */
export interface CommandIo {
  readonly stdout: (text: string) => void;
  readonly stderr: (text: string) => void;
  readonly isTerminal: boolean;
}

/** The command line makes no sense: one line, exit code 2. */
class UsageError extends Error {}

/** What a subcommand gets: its words and its flags. */
interface Call {
  readonly words: readonly string[];
  readonly flags: Readonly<Record<string, string | boolean | undefined>>;
  readonly io: CommandIo;
}

/** One subcommand. */
interface Subcommand {
  readonly help: string;
  readonly flags: ParseArgsOptionsConfig;
  readonly run: (call: Call) => Promise<number>;
}

const DEFAULT_DIRECTORY = "ca";
const DEFAULT_CA_DAYS = 3650;
const DEFAULT_IDENTITY_DAYS = 90;

const COMMON_FLAGS: ParseArgsOptionsConfig = {
  dir: { type: "string" },
  json: { type: "boolean" },
  help: { type: "boolean", short: "h" },
};

const HELP = `Usage: ginnel ca COMMAND

The network's offline certificate authority: a directory of four files.

Commands:
  init   make the CA and the key that signs views
  issue  make an identity file for a relay, connector, agent or user
  show   say what a CA directory, an identity file or a certificate holds
  rotate replace the CA in three steps

Run ginnel ca COMMAND --help for its flags.
`;

const INIT_HELP = `Usage: ginnel ca init --trust-domain DOMAIN [--dir DIR] [--days N] [--json]

Makes a certificate authority: ca.crt, ca.key, authority.key and authority.pub in DIR.

  --trust-domain DOMAIN  name of the network, such as example.internal
  --dir DIR              where to put it (default ${DEFAULT_DIRECTORY}); nothing there is overwritten
  --days N               how long the CA lasts (default ${DEFAULT_CA_DAYS})
  --json                 print the result as JSON
`;

const ISSUE_HELP = `Usage: ginnel ca issue KIND NAME [--dir DIR] [-o FILE] [--days N] [--json]

Makes an identity file: certificate, private key and what it trusts.

  KIND              ${IDENTITY_KINDS.join(", ")}
  NAME              letters, digits, dots, dashes and underscores; a relay's is a DNS label
  --dir DIR         directory of the CA (default ${DEFAULT_DIRECTORY})
  -o, --output FILE where to write it (default NAME.identity.json); an existing file is kept
  --days N          how long it lasts (default ${DEFAULT_IDENTITY_DAYS})
  --json            print the result as JSON
`;

const SHOW_HELP = `Usage: ginnel ca show [FILE | --dir DIR] [--json]

Says what a CA directory (default ${DEFAULT_DIRECTORY}), an identity file or a PEM certificate holds.
Exit code 1 means that it cannot be used, for example because it expired.

  --dir DIR  the CA directory
  --json     print the result as JSON
`;

const SUBCOMMANDS: ReadonlyMap<string, Subcommand> = new Map<string, Subcommand>([
  ["init", {
    help: INIT_HELP,
    flags: { "trust-domain": { type: "string" }, days: { type: "string" } },
    run: init,
  }],
  ["issue", {
    help: ISSUE_HELP,
    flags: { output: { type: "string", short: "o" }, days: { type: "string" } },
    run: issue,
  }],
  ["show", { help: SHOW_HELP, flags: {}, run: show }],
  ["rotate", { help: ROTATE_HELP, flags: { days: { type: "string" } }, run: rotate }],
]);

/** Codes that mean that the command line named something that is not there or cannot be. */
const USAGE_CODES: ReadonlySet<string> = new Set(["ERR_IDENTITY_FILE_MISSING", "ERR_SPIFFE_ID_INVALID"]);

/** Runs `ginnel ca ...` and returns the exit code: 0 done, 1 failed, 2 wrong command line. */
export async function caCommand(args: string[], io: CommandIo): Promise<number> {
  const [word, ...rest] = args;
  if (word === undefined || word === "--help" || word === "-h" || word === "help") {
    (word === undefined ? io.stderr : io.stdout)(HELP);
    return word === undefined ? 2 : 0;
  }
  try {
    const command = SUBCOMMANDS.get(word);
    if (command === undefined) {
      throw new UsageError(`Unknown command "${word}": it is one of ${[...SUBCOMMANDS.keys()].join(", ")}`);
    }
    const { words, flags } = parse(rest, command.flags);
    if (flags.help === true) {
      io.stdout(command.help);
      return 0;
    }
    return await command.run({ words, flags, io });
  } catch (error) {
    io.stderr(`ginnel ca: ${describeError(error)}\n`);
    return exitCode(error);
  }
}

async function init(call: Call): Promise<number> {
  const { words, flags, io } = call;
  assertWordCount(words, { most: 0, usage: "ginnel ca init --trust-domain DOMAIN" });
  const trustDomain = flags["trust-domain"];
  if (typeof trustDomain !== "string") {
    throw new UsageError("Missing --trust-domain DOMAIN, the name of the network");
  }
  const directory = readDirectory(call);
  const days = readDays(flags.days, DEFAULT_CA_DAYS);
  const { ca, authority } = await createCaDirectory(directory, { trustDomain, days, now: Date.now() });
  const files = caPaths(directory);
  const notAfter = new Date(ca.notAfter).toISOString();
  if (flags.json === true) {
    io.stdout(toJson({ trustDomain, directory, notAfter, authority: authority.kid, files }));
    return 0;
  }
  const width = Math.max(...Object.values(files).map((file) => file.length)) + 2;
  io.stdout(
    `Made the certificate authority of ${trustDomain}, valid until ${notAfter.slice(0, 10)}\n\n` +
      `  ${files.certificate.padEnd(width)}CA certificate\n` +
      `  ${files.key.padEnd(width)}CA private key, mode 0600: keep it offline\n` +
      `  ${files.authorityKey.padEnd(width)}key that signs views, mode 0600: the relay needs it\n` +
      `  ${files.authorityPublic.padEnd(width)}its public half: goes into every identity\n\n` +
      `Next: ginnel ca issue relay relay-1${dirFlag(directory)}\n`,
  );
  return 0;
}

async function issue(call: Call): Promise<number> {
  const { words, flags, io } = call;
  const usage = "ginnel ca issue KIND NAME";
  assertWordCount(words, { most: 2, usage });
  const [kind, name] = words;
  if (kind === undefined || name === undefined) throw new UsageError(`Missing KIND or NAME: ${usage}`);
  if (!isIdentityKind(kind)) {
    throw new UsageError(`Unknown kind "${kind}": it is one of ${IDENTITY_KINDS.join(", ")}`);
  }
  const days = readDays(flags.days, DEFAULT_IDENTITY_DAYS);
  const file = typeof flags.output === "string" ? flags.output : `${name}.identity.json`;
  const { ca, authority } = await openCaDirectory(readDirectory(call));
  const { id, text, notAfter } = await issueIdentity(ca, {
    kind,
    name,
    days,
    now: Date.now(),
    authorities: [authority],
  });
  await writeSecretFile(file, text);
  const until = new Date(notAfter).toISOString();
  if (flags.json === true) {
    io.stdout(toJson({ id: id.uri, kind, name, file, notAfter: until }));
    return 0;
  }
  io.stdout(
    `Issued ${id.uri}, valid until ${until.slice(0, 10)}\n\n` +
      `  ${file}  certificate, private key and trust, mode 0600\n\n` +
      `Next: move it to the ${kind}'s machine, keep its mode, and name it as "identity" in the config there\n`,
  );
  return 0;
}

async function show(call: Call): Promise<number> {
  const { words, flags, io } = call;
  assertWordCount(words, { most: 1, usage: "ginnel ca show [FILE | --dir DIR]" });
  const [file] = words;
  if (file !== undefined && flags.dir !== undefined) {
    throw new UsageError("Give either FILE or --dir, not both");
  }
  const now = Date.now();
  const description = file === undefined
    ? await describeCa(readDirectory(call), { now })
    : await describeFile(file, { now });
  io.stdout(flags.json === true ? toJson(description) : formatDescription(description));
  return description.usable ? 0 : 1;
}

async function rotate(call: Call): Promise<number> {
  const { words, flags, io } = call;
  assertWordCount(words, { most: 1, usage: "ginnel ca rotate STEP" });
  const [step = ""] = words;
  if (!isRotateStep(step)) {
    throw new UsageError(`Unknown STEP "${step}": it is one of ${ROTATE_STEPS.join(", ")}`);
  }
  const directory = readDirectory(call);
  const days = readDays(flags.days, DEFAULT_CA_DAYS);
  const message = await rotateCa(step, { directory, days, now: Date.now() });
  io.stdout(
    flags.json === true
      ? toJson({ step, directory })
      : `${message}${step === "retire" ? "" : dirFlag(directory)}\n`,
  );
  return 0;
}

function parse(args: string[], flags: ParseArgsOptionsConfig): Pick<Call, "words" | "flags"> {
  try {
    const { values, positionals } = parseArgs({
      args,
      options: { ...COMMON_FLAGS, ...flags },
      allowPositionals: true,
      strict: true,
    });
    return { words: positionals, flags: values as Call["flags"] };
  } catch (error) {
    // The parser's own advice after the first sentence does not apply here.
    throw new UsageError(errorMessage(error).split(". ")[0]!.split("\n")[0]!, { cause: error });
  }
}

function assertWordCount(
  words: readonly string[],
  options: { readonly most: number; readonly usage: string },
): void {
  const { most, usage } = options;
  if (words.length > most) throw new UsageError(`Unexpected argument "${words[most]}": ${usage}`);
}

function readDirectory(call: Call): string {
  return typeof call.flags.dir === "string" ? call.flags.dir : DEFAULT_DIRECTORY;
}

function readDays(value: string | boolean | undefined, fallback: number): number {
  if (value === undefined) return fallback;
  const days = typeof value === "string" && /^\d{1,5}$/.test(value) ? Number(value) : NaN;
  if (!(days >= 1 && days <= MAX_DAYS)) {
    throw new UsageError(`Cannot use --days ${value}: it must be a whole number from 1 to ${MAX_DAYS}`);
  }
  return days;
}

function dirFlag(directory: string): string {
  return directory === DEFAULT_DIRECTORY ? "" : ` --dir ${directory}`;
}

function toJson(value: object): string {
  return JSON.stringify(value, undefined, 2) + "\n";
}

function describeError(error: unknown): string {
  const hint = error instanceof GinnelError && error.hint !== undefined ? `. ${error.hint}` : "";
  return errorMessage(error) + hint;
}

function exitCode(error: unknown): number {
  if (error instanceof UsageError) return 2;
  return error instanceof GinnelError && USAGE_CODES.has(error.code) ? 2 : 1;
}
