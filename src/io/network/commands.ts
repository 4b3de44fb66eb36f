/**
 * The programs that set up the kernel's network: `ip`, `nft`, `nmcli` and `resolvectl`, run to their end. Arguments come
 * from parsed values only, and never pass through a shell.
 */

import { withDeadline } from "../../base/async.ts";
import { utf8 } from "../../base/bytes.ts";
import { GinnelError } from "../../base/errors.ts";
import { inheritNetAdmin } from "./libc.ts";

/** The programs we may run: the compiled program's permission names the same. */
export type ProgramName = "ip" | "nft" | "nmcli" | "resolvectl";

/** What a program left behind. */
export interface CommandResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs programs; tests replace it. */
export interface Commands {
  run(program: ProgramName, args: readonly string[], stdin?: string): Promise<CommandResult>;
}

/** One run, and what it is for, as it stands in an error after "Cannot". */
export interface Invocation {
  readonly program: ProgramName;
  readonly args: readonly string[];
  readonly stdin?: string;
  readonly purpose: string;
}

/** What to do where the right to change the network is missing. */
const NET_ADMIN_HINT = "Grant just CAP_NET_ADMIN: `setcap cap_net_admin+ep FILE`, or " +
  "AmbientCapabilities=CAP_NET_ADMIN in the systemd unit, or `docker run --cap-add NET_ADMIN`";

/** The real programs, with only the rights they need handed on to them. */
export function systemCommands(): Commands {
  inheritNetAdmin();
  return { run: runProgram };
}

/** Runs a program and returns its output; throws an error that names purpose, reason and remedy when it fails. */
export async function runChecked(commands: Commands, invocation: Invocation): Promise<string> {
  const { program, args, stdin } = invocation;
  const result = await commands.run(program, args, stdin);
  if (result.code !== 0) throw commandError(invocation, result);
  return result.stdout;
}

/** The error of a program that failed. */
export function commandError({ program, args, purpose }: Invocation, result: CommandResult): GinnelError {
  const reason = firstLine(result.stderr) || firstLine(result.stdout) || `exit code ${result.code}`;
  const message = `Cannot ${purpose}: ${program} says: ${reason}`;
  if (/not permitted|permission denied|must be root/i.test(result.stderr)) {
    return new GinnelError("ERR_NETWORK_PERMISSION", message, { hint: NET_ADMIN_HINT });
  }
  const command = [program, ...args].join(" ");
  return new GinnelError("ERR_NETWORK_COMMAND", message, { hint: `See what \`${command}\` meets there` });
}

/** A program that hangs must not hang the node: none of these takes a second. */
const RUN_LIMIT_MS = 30_000;

/** Which package brings each program, for the error that it is missing. */
const PACKAGE: Readonly<Record<ProgramName, string>> = {
  ip: "iproute2",
  nft: "nftables",
  nmcli: "network-manager",
  resolvectl: "systemd-resolved",
};

function runProgram(program: ProgramName, args: readonly string[], stdin?: string): Promise<CommandResult> {
  return withDeadline(RUN_LIMIT_MS, async (signal) => {
    const child = spawn(program, args, { stdin: stdin !== undefined, signal });
    const fed = stdin === undefined ? undefined : feed(child.stdin, stdin);
    const { code, stdout, stderr } = await child.output();
    await fed;
    const decoder = new TextDecoder();
    return { code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
  });
}

function spawn(
  program: ProgramName,
  args: readonly string[],
  { stdin, signal }: { readonly stdin: boolean; readonly signal: AbortSignal },
): Deno.ChildProcess {
  try {
    return new Deno.Command(program, {
      args: [...args],
      stdin: stdin ? "piped" : "null",
      stdout: "piped",
      stderr: "piped",
      env: { LC_ALL: "C" },
      signal,
    }).spawn();
  } catch (cause) {
    if (!(cause instanceof Deno.errors.NotFound) && !(cause instanceof Deno.errors.NotCapable)) throw cause;
    throw new GinnelError("ERR_NETWORK_TOOL", `Cannot run ${program}: it is not there, or not in PATH`, {
      cause,
      hint: `Install ${PACKAGE[program]}, and have /usr/sbin in PATH`,
    });
  }
}

async function feed(stdin: WritableStream<Uint8Array>, text: string): Promise<void> {
  const writer = stdin.getWriter();
  try {
    await writer.write(utf8(text));
    await writer.close();
  } catch (error) {
    // A program that ends before it has read everything tells why by its exit code.
    if (!(error instanceof Deno.errors.BrokenPipe)) throw error;
  }
}

function firstLine(text: string): string {
  return text.trim().split("\n", 1)[0]?.trim() ?? "";
}
