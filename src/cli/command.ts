/**
 * What every command shares: strict flags, `--help`, and one way to report errors.
 */

import { parseArgs } from "node:util";
import { errorMessage, GinnelError } from "../base/errors.ts";
import { closest } from "../config/closest.ts";
import { ConfigError } from "../config/errors.ts";
import { IdentityError } from "../identity/errors.ts";
import type { CommandIo } from "./ca.ts";

/** Exit codes of every command. */
export const EXIT = { done: 0, failed: 1, usage: 2 } as const;

/** Flags given on the command line: text, or true for those without a value. */
export type Flags = Readonly<Record<string, string | true | undefined>>;

/** A command without subcommands. */
export interface CommandSpec {
  readonly name: string;
  readonly help: string;
  /** The flags besides `--help`, and whether each takes a value. */
  readonly flags: Readonly<Record<string, "text" | "switch">>;
  readonly run: (flags: Flags, io: CommandIo) => Promise<number>;
}

/** The command line makes no sense. */
export class UsageError extends Error {}

/** Runs a command: handles `--help`, refuses what it does not know, reports what goes wrong. */
export async function execute(spec: CommandSpec, args: readonly string[], io: CommandIo): Promise<number> {
  try {
    const flags = readFlags(args, spec.flags);
    if (flags.help === true) {
      io.stdout(spec.help);
      return EXIT.done;
    }
    return await spec.run(flags, io);
  } catch (error) {
    if (error instanceof UsageError) {
      io.stderr(`ginnel ${spec.name}: ${error.message}. Run ginnel ${spec.name} --help.\n`);
      return EXIT.usage;
    }
    io.stderr(describeError(error, spec.name));
    return exitCodeOf(error);
  }
}

/** The value of a flag that must be given. */
export function requireFlag(flags: Flags, name: string, placeholder: string): string {
  const value = flags[name];
  if (typeof value === "string" && value !== "") return value;
  throw new UsageError(`Missing --${name} ${placeholder}`);
}

/** What a person reads of an error: what is wrong, and what to do about it where that is known. */
function describeError(error: unknown, command: string): string {
  // Every line of a config error names its file and place: a prefix would only hide them.
  if (error instanceof ConfigError) return `${error.message}\n`;
  const hint = error instanceof GinnelError && error.hint !== undefined ? `. ${error.hint}` : "";
  return `ginnel ${command}: ${errorMessage(error)}${hint}\n`;
}

/** Mistakes in what the operator wrote or named are told apart from everything that can fail by itself. */
function exitCodeOf(error: unknown): number {
  return error instanceof ConfigError || error instanceof IdentityError ? EXIT.usage : EXIT.failed;
}

function readFlags(args: readonly string[], known: CommandSpec["flags"]): Flags {
  const flags: Record<string, string | true> = {};
  const { tokens } = parseArgs({
    args: [...args],
    strict: false,
    tokens: true,
    options: {
      help: { type: "boolean", short: "h" },
      ...Object.fromEntries(
        Object.entries(known).map(([name, kind]) => [name, { type: kind === "text" ? "string" : "boolean" }]),
      ) as Record<string, { type: "string" | "boolean" }>,
    },
  });
  for (const token of tokens) {
    if (token.kind === "positional") {
      throw new UsageError(`Unexpected argument ${JSON.stringify(token.value)}`);
    }
    if (token.kind !== "option") continue;
    const kind = token.name === "help"
      ? "switch"
      : Object.hasOwn(known, token.name)
      ? known[token.name]
      : undefined;
    if (kind === undefined) throw unknownFlag(token.rawName, Object.keys(known));
    if (kind === "text" && !isValue(token)) throw new UsageError(`${token.rawName} needs a value`);
    if (kind === "switch" && token.value !== undefined) {
      throw new UsageError(`${token.rawName} takes no value`);
    }
    if (Object.hasOwn(flags, token.name)) throw new UsageError(`${token.rawName} is given twice`);
    flags[token.name] = token.value ?? true;
  }
  return flags;
}

/**
 * The next flag is no value, unless it was written with `=`. Fingerprints and other values in base64url may begin with a
 * hyphen; no flag looks like them.
 */
function isValue(
  { value, inlineValue }: { readonly value?: string | undefined; readonly inlineValue?: boolean | undefined },
): boolean {
  return value !== undefined && value !== "" && (inlineValue === true || !FLAG.test(value));
}

/** How flags are written: words in small letters, or one letter. */
const FLAG = /^--?[a-z][a-z-]*(?:=|$)/;

function unknownFlag(name: string, known: readonly string[]): UsageError {
  const near = closest(name.replace(/^-+/, ""), [...known, "help"]);
  return new UsageError(`Unknown flag ${name}${near === undefined ? "" : ` (did you mean --${near}?)`}`);
}
