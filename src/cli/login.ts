/** `ginnel login`: a user's identity by an OpenID provider, in a browser here or at another device. */

import { loadIdentity } from "../identity/identity_file.ts";
import { readCaFile } from "../identity/ca_file.ts";
import { homeOfController, homeOfIdentity, type LoginHome } from "../modes/login/login_home.ts";
import { type LoggedIn, loginUser, refreshUser } from "../modes/login/user_login.ts";
import type { CommandIo } from "./ca.ts";
import { execute, EXIT, type Flags, requireFlag } from "./command.ts";

const HELP = `Usage: ginnel login -o FILE --identity FILE [--provider NAME] [--device]
       ginnel login -o FILE --controller URL --ca-hash HASH [--provider NAME] [--device]
       ginnel login -o FILE --refresh

Logs a user in at an OpenID provider of the network and writes an identity file for the agent. Prints an address to
open in a browser on this machine; with --device, an address and a code to enter at any other.

  -o, --output FILE      the identity file to write; what a refresh needs is written to FILE.login
  --identity FILE        an identity file that names the network's controllers, such as this device's, or FILE itself
  --controller URL       a controller of the network, such as https://controller.example.com:8441
  --ca-hash HASH         the fingerprint of the network's CA, which comes with every enrolment token and provider page
  --provider NAME        which provider; may be left out where there is one
  --provider-ca FILE     CA certificates, PEM, for a provider whose certificate no public CA has issued
  --device               log in at another device, for machines without a browser
  --refresh              log the same user in again, without a browser
  --json                 print the result as JSON

Exit codes: 0 done, 1 the login failed, 2 wrong command line or identity file.
`;

const FLAGS = {
  "output": "text",
  "identity": "text",
  "controller": "text",
  "ca-hash": "text",
  "provider": "text",
  "provider-ca": "text",
  "device": "switch",
  "refresh": "switch",
  "json": "switch",
} as const;

/** How long a person has to log in, in milliseconds: as long as the controller's challenge lasts. */
const LOGIN_TIMEOUT = 10 * 60_000;

/** Runs `ginnel login ...` and returns the exit code. */
export function loginCommand(args: string[], io: CommandIo): Promise<number> {
  const long = args.map((arg) => arg === "-o" ? "--output" : arg);
  return execute({ name: "login", help: HELP, flags: FLAGS, run: login }, long, io);
}

async function login(flags: Flags, io: CommandIo): Promise<number> {
  const path = requireFlag(flags, "output", "FILE");
  const signal = AbortSignal.timeout(LOGIN_TIMEOUT);
  const done = flags.refresh === true ? await refreshUser(path, { signal }) : await loginUser({
    home: await findHome(flags, signal),
    path,
    provider: textOf(flags, "provider"),
    device: flags.device === true,
    providerRoots: await readRoots(textOf(flags, "provider-ca")),
    show: (instructions) => io.stderr(describeWay(instructions)),
    signal,
  });
  io.stdout(
    flags.json === true ? `${JSON.stringify({ file: path, ...toJson(done) })}\n` : describe(done, path),
  );
  return EXIT.done;
}

async function findHome(flags: Flags, signal: AbortSignal): Promise<LoginHome> {
  const place = textOf(flags, "controller");
  if (place === undefined) {
    const path = requireFlag(flags, "identity", "FILE, or --controller URL --ca-hash HASH");
    return homeOfIdentity(await loadIdentity(path, { evenExpired: true }), path);
  }
  return await homeOfController(place, { caHash: requireFlag(flags, "ca-hash", "HASH"), signal });
}

async function readRoots(path: string | undefined): Promise<readonly string[]> {
  return path === undefined ? [] : await readCaFile(path);
}

function textOf(flags: Flags, name: string): string | undefined {
  const value = flags[name];
  return typeof value === "string" ? value : undefined;
}

function describeWay(
  instructions: { readonly url: string; readonly completeUrl?: string | undefined; readonly code?: string },
): string {
  const { url, completeUrl, code } = instructions;
  if (code === undefined) return `Open this address in a browser on this machine:\n\n  ${url}\n\n`;
  const short = completeUrl === undefined
    ? ""
    : `Or open this one, which has the code in it:\n\n  ${completeUrl}\n\n`;
  return `Open this address at any device and enter the code ${code}:\n\n  ${url}\n\n${short}`;
}

function describe({ identity, notAfter, canRefresh }: LoggedIn, path: string): string {
  const next = canRefresh ? "A running agent renews it by itself." : "Log in again before that.";
  const until = new Date(notAfter).toISOString();
  return `Logged in as ${identity}\n${path} is valid until ${until}. ${next}\n\n` +
    `Next: ginnel run --identity ${path}; every service that policy grants then appears by name\n`;
}

function toJson({ notAfter, ...done }: LoggedIn) {
  return { ...done, notAfter: new Date(notAfter).toISOString() };
}
