/** `ginnel enroll`: a one-time token becomes an identity file. The token is printed nowhere. */

import { enrolDevice } from "../modes/enrol/enrol_device.ts";
import { readEnrolmentToken } from "../identity/enrolment_token.ts";
import { readPublicFile } from "../identity/secret_file.ts";
import type { CommandIo } from "./ca.ts";
import { execute, EXIT, type Flags, UsageError } from "./command.ts";

const HELP = `Usage: ginnel enroll TOKEN [-o FILE | --name NAME] [--replace] [--json]
       ginnel enroll --token-file FILE ...

Turns the one-time token that an administrator made into an identity file: makes a key, checks by the token that it
speaks to the right controller, and gets the key certified. The key never leaves the file.

  TOKEN              the token; others on this machine may see a command line, so prefer:
  --token-file FILE  a file that holds the token
  -o, --output FILE  where to write the identity (default NAME.identity.json); an existing file is kept
  --name NAME        write it to NAME.json
  --replace          replace an existing file, once the new identity is there
  --json             print the result as JSON

Exit codes: 0 done, 1 the controller refused or could not be reached, 2 wrong command line, token or file.
`;

const FLAGS = {
  "token-file": "text",
  output: "text",
  name: "text",
  replace: "switch",
  json: "switch",
} as const;

/** Longest time to wait for controllers, in milliseconds. */
const TIMEOUT = 60_000;

/** Runs `ginnel enroll ...` and returns the exit code. */
export function enrollCommand(args: string[], io: CommandIo): Promise<number> {
  const [word, ...rest] = args;
  const isToken = word !== undefined && !word.startsWith("-");
  const run = (flags: Flags) => enroll(isToken ? word : undefined, { flags, io });
  const given = (isToken ? rest : args).map((arg) => arg === "-o" ? "--output" : arg);
  return execute({ name: "enroll", help: HELP, flags: FLAGS, run }, given, io);
}

async function enroll(
  word: string | undefined,
  { flags, io }: { readonly flags: Flags; readonly io: CommandIo },
): Promise<number> {
  const token = await readToken(word, flags["token-file"]);
  const { id } = readEnrolmentToken(token, { now: Date.now() });
  const path = outputOf(flags, id.name);
  const controller = new AbortController();
  const timer = setTimeout(
    () => controller.abort(new Error(`No answer within ${TIMEOUT / 1000} s`)),
    TIMEOUT,
  );
  try {
    const replace = flags.replace === true;
    const { notAfter, network } = await enrolDevice({ token, path, replace, signal: controller.signal });
    const until = new Date(notAfter).toISOString();
    if (flags.json === true) {
      const relays = network?.relays.map(({ name }) => name) ?? [];
      io.stdout(JSON.stringify({ id: id.uri, file: path, notAfter: until, relays }, undefined, 2) + "\n");
      return EXIT.done;
    }
    io.stdout(
      `Enrolled ${id.uri}, valid until ${
        until.slice(0, 16).replace("T", " ")
      }Z and renewed by itself while it runs\n\n` +
        `  ${path}  certificate, private key and trust, mode 0600\n\n` +
        `Next: ${nextStep(id.kind, path)}\n`,
    );
    return EXIT.done;
  } finally {
    clearTimeout(timer);
  }
}

async function readToken(word: string | undefined, file: string | true | undefined): Promise<string> {
  if ((word === undefined) === (typeof file !== "string")) {
    throw new UsageError("Give either TOKEN or --token-file FILE");
  }
  return (word ?? await readPublicFile(file as string)).trim();
}

function nextStep(kind: string, path: string): string {
  if (kind !== "agent") {
    return `name it as "identity" in the ${kind}'s config, then: ginnel run --config FILE`;
  }
  return `ginnel run --identity ${path}; every service that policy grants then appears by name`;
}

function outputOf({ output, name }: Flags, identityName: string): string {
  if (output !== undefined && name !== undefined) throw new UsageError("Give either -o or --name, not both");
  if (typeof output === "string") return output;
  if (typeof name !== "string") return `${identityName}.identity.json`;
  if (!/^[\w.-]+$/.test(name)) {
    throw new UsageError("--name may contain only letters, digits, dots, dashes and underscores");
  }
  return `${name}.json`;
}
