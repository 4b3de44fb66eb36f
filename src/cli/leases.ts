/**
 * `ginnel leases`: which identity has which tunnel addresses, and how to take them away.
 */

import { formatIp } from "../base/ip.ts";
import { closest } from "../config/closest.ts";
import type { Lease } from "../core/ipam.ts";
import { RelayLeases } from "../modes/leases/relay_leases.ts";
import type { CommandIo } from "./ca.ts";
import { execute, EXIT, type Flags, requireFlag } from "./command.ts";

const HELP = `Usage: ginnel leases --config FILE [--json]
       ginnel leases release IDENTITY --config FILE [--json]

Lists the tunnel addresses that a relay has given, or takes one identity's away. FILE is the relay's config; it
does not matter whether the relay runs. If it does, it ends the session of a released identity within seconds.

  IDENTITY       a SPIFFE ID, or its end: agent/alice, alice
  --config FILE  the relay's config file, JSON
  --json         print the result as JSON

Exit codes: 0 done, 1 there is no such lease or the file cannot be used, 2 wrong command line or config.
`;

const FLAGS = { config: "text", json: "switch" } as const;

/** Runs `ginnel leases ...` and returns the exit code. */
export function leasesCommand(args: string[], io: CommandIo): Promise<number> {
  const [word, identity, ...rest] = args;
  if (word !== "release") return execute({ name: "leases", help: HELP, flags: FLAGS, run: list }, args, io);
  const name = "leases release";
  if (identity === undefined || identity.startsWith("-")) {
    const isHelp = args.includes("--help") || args.includes("-h");
    if (isHelp) return execute({ name, help: HELP, flags: FLAGS, run: list }, ["--help"], io);
    io.stderr(`ginnel ${name}: Missing IDENTITY. Run ginnel leases --help.\n`);
    return Promise.resolve(EXIT.usage);
  }
  const run = (flags: Flags) => release(identity, { flags, io });
  return execute({ name, help: HELP, flags: FLAGS, run }, rest, io);
}

async function list(flags: Flags, io: CommandIo): Promise<number> {
  const stored = await RelayLeases.of(requireFlag(flags, "config", "FILE"));
  const leases = (await stored.list()).sort(byAddress);
  if (flags.json === true) io.stdout(toJson({ file: stored.path, leases: leases.map(describe) }));
  else if (leases.length === 0) io.stdout(`No leases in ${stored.path}\n`);
  else io.stdout(formatTable(leases));
  return EXIT.done;
}

async function release(
  wanted: string,
  { flags, io }: { readonly flags: Flags; readonly io: CommandIo },
): Promise<number> {
  const stored = await RelayLeases.of(requireFlag(flags, "config", "FILE"));
  const identities = (await stored.list()).map(({ identity }) => identity);
  const matches = identities.filter((identity) => identity === wanted || identity.endsWith(`/${wanted}`));
  const [identity, another] = matches;
  if (another !== undefined) {
    io.stderr(
      `ginnel leases release: ${JSON.stringify(wanted)} may be ${
        matches.sort().join(" or ")
      }: write which one\n`,
    );
    return EXIT.failed;
  }
  const lease = identity === undefined ? undefined : await stored.release(identity);
  if (lease === undefined) {
    const near = closest(wanted, identities.flatMap(spellings));
    const guess = near === undefined ? "" : ` (did you mean ${near}?)`;
    io.stderr(
      `ginnel leases release: ${JSON.stringify(wanted)} has no lease in ${stored.path}${guess}\n`,
    );
    return EXIT.failed;
  }
  if (flags.json === true) io.stdout(toJson({ file: stored.path, released: describe(lease) }));
  else io.stdout(`Released ${addressesOf(lease).join(" and ")} of ${lease.identity}\n`);
  return EXIT.done;
}

function formatTable(leases: readonly Lease[]): string {
  const rows = [
    ["IDENTITY", "IPV4", "IPV6", "SINCE", "LAST SEEN"],
    ...leases.map((lease) => {
      const { identity, ipv4, ipv6, since, lastSeen } = describe(lease);
      return [identity, ipv4 ?? "-", ipv6 ?? "-", toMinute(since), toMinute(lastSeen)];
    }),
  ];
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows.map((row) =>
    `${row.map((cell, column) => cell.padEnd(widths[column]!)).join("  ").trimEnd()}\n`
  ).join("");
}

/** A lease as people and programs read it. */
function describe(lease: Lease) {
  const { identity, ipv4, ipv6, since, lastSeen } = lease;
  return {
    identity,
    ipv4: ipv4 === null ? null : formatIp(ipv4),
    ipv6: ipv6 === null ? null : formatIp(ipv6),
    since: new Date(since).toISOString(),
    lastSeen: new Date(lastSeen).toISOString(),
  };
}

function addressesOf({ ipv4, ipv6 }: Lease): string[] {
  return [ipv4, ipv6].filter((address) => address !== null).map(formatIp);
}

function byAddress(a: Lease, b: Lease): number {
  const [left, right] = [a, b].map(({ ipv4, ipv6 }) => (ipv4 ?? ipv6)?.value ?? 0n) as [bigint, bigint];
  return left < right ? -1 : left > right ? 1 : 0;
}

/** The ways somebody may have meant to write an identity. */
function spellings(identity: string): string[] {
  const parts = identity.split("/");
  return [parts.at(-1)!, parts.slice(-2).join("/")];
}

function toMinute(time: string): string {
  return `${time.slice(0, 16).replace("T", " ")}Z`;
}

function toJson(value: object): string {
  return JSON.stringify(value, undefined, 2) + "\n";
}
