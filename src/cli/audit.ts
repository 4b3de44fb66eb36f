/** `ginnel audit`: verifies the audit log of a network, and looks things up in it. */

import { type AuditHead, type ChainFault, verifyChain } from "../core/audit/chain.ts";
import { AUDIT_EVENTS, type AuditEntry, type AuditQuery } from "../core/network/audit_entry.ts";
import { openAuditApi } from "../modes/audit/audit_api.ts";
import { openAuditDatabase } from "../modes/audit/audit_database.ts";
import type { AuditReader } from "../modes/audit/audit_reader.ts";
import type { CommandIo } from "./ca.ts";
import { execute, EXIT, type Flags, UsageError } from "./command.ts";

const HELP = `Usage: ginnel audit verify SOURCE [--head HASH@SEQ[,...]] [--json]
       ginnel audit query SOURCE [FILTER...] [--limit N] [--json]

Checks that nobody changed the audit log, or shows what it says, newest first.

SOURCE, one of:
  --config FILE          config of the controller on this machine; its database is read directly
  --controller URL       a controller's API, with
    --ca FILE              the network's CA certificate, and
    --token-file FILE      file with an API token
  --identity FILE        an administrator's identity file, which says all that

verify:
  --head HASH@SEQ        a head written down earlier: without one a log looks whole to whoever cut off its
                         end and set the database's own note of it back. Controllers log theirs each hour
                         as audit_head

query:
  --since TIME           from then on; 2026-01-31T12:00:00Z, or a time ago: 15m, 24h, 7d
  --until TIME           until then
  --who ID               who acted: a SPIFFE ID, or token:ID
  --service NAME         service, or kind/name of what was changed
  --outcome TEXT         such as open, closed, denied, ok, 403
  --event EVENT          ${AUDIT_EVENTS.join(", ")}
  --limit N              at most so many (default 100)

  --json                 print the result as JSON

Exit codes: 0 done, 1 the log is not as it was written, or cannot be read, 2 wrong command line or config.
`;

const SOURCE_FLAGS = {
  "config": "text",
  "controller": "text",
  "ca": "text",
  "identity": "text",
  "token-file": "text",
  "json": "switch",
} as const;

const VERIFY_FLAGS = { ...SOURCE_FLAGS, head: "text" } as const;

const QUERY_FLAGS = {
  ...SOURCE_FLAGS,
  "since": "text",
  "until": "text",
  "who": "text",
  "service": "text",
  "outcome": "text",
  "event": "text",
  "limit": "text",
} as const;

const MAX_LIMIT = 10_000;

/** Entries between two signs of life. */
const PROGRESS = 10_000;

const FAULTS: Readonly<Record<ChainFault, string>> = {
  gap: "an entry before it is missing",
  altered: "it, or the hash of the entry before it, was changed",
  reordered: "it stands in another's place",
  truncated: "the log ends before it, though it was there when the head was written down",
  rewritten: "the log fits together, but is not the one the head belongs to",
};

const UNITS: Readonly<Record<string, number>> = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** Runs `ginnel audit ...` and returns the exit code. */
export function auditCommand(args: string[], io: CommandIo): Promise<number> {
  const [word, ...rest] = args;
  if (word === "verify") {
    return execute({ name: "audit verify", help: HELP, flags: VERIFY_FLAGS, run: verify }, rest, io);
  }
  if (word === "query") {
    return execute({ name: "audit query", help: HELP, flags: QUERY_FLAGS, run: query }, rest, io);
  }
  const run = () => Promise.reject(new UsageError("Missing verify or query"));
  return execute({ name: "audit", help: HELP, flags: {}, run }, args, io);
}

async function verify(flags: Flags, io: CommandIo): Promise<number> {
  const heads = readHeads(flags["head"]);
  await using reader = await openReader(flags);
  // The database's own note comes last: of two that name one entry, that from elsewhere must count.
  const noted = await reader.head();
  if (noted !== undefined && !heads.some(({ seq }) => seq === noted.seq)) heads.push(noted);
  let told = 0;
  const verdict = await verifyChain(reader.entries(), {
    heads,
    onProgress: (entries) => {
      if (entries - told < PROGRESS) return;
      told = entries;
      io.stderr(`${entries} entries are right so far\n`);
    },
  });
  if (flags["json"] === true) {
    io.stdout(toJson(verdict));
  } else if (verdict.ok) {
    const { entries, lastHash, lastSeq } = verdict;
    io.stdout(
      `${entries} entries in ${reader.place} are as they were written\nhead ${lastHash}@${lastSeq}\n`,
    );
  } else {
    io.stdout(`Entry ${verdict.seq} in ${reader.place} is not right: ${FAULTS[verdict.reason]}\n`);
  }
  return verdict.ok ? EXIT.done : EXIT.failed;
}

async function query(flags: Flags, io: CommandIo): Promise<number> {
  const wanted = readQuery(flags, Date.now());
  await using reader = await openReader(flags);
  const entries = await reader.query(wanted);
  if (flags["json"] === true) io.stdout(toJson({ entries }));
  else io.stdout(entries.map(formatEntry).join(""));
  return EXIT.done;
}

function openReader(flags: Flags): Promise<AuditReader> {
  const { config, controller, ca, identity, "token-file": tokenFile } = flags as Readonly<
    Record<string, string>
  >;
  if (config !== undefined) {
    if (controller !== undefined || identity !== undefined) {
      throw new UsageError("--config reads the database: not beside --controller or --identity");
    }
    return openAuditDatabase(config);
  }
  if (controller === undefined && identity === undefined) {
    throw new UsageError("Missing --config FILE, --controller URL or --identity FILE");
  }
  return openAuditApi({ controller, ca, identity, tokenFile });
}

function readHeads(text: string | true | undefined): AuditHead[] {
  if (typeof text !== "string") return [];
  return text.split(",").map((head) => {
    const [, hash, seq] = /^([0-9a-f]{64})@([1-9][0-9]{0,14})$/i.exec(head.trim()) ?? [];
    if (hash === undefined) throw new UsageError(`--head ${JSON.stringify(head)} is no HASH@SEQ`);
    return { hash, seq: Number(seq) };
  });
}

function readQuery(flags: Flags, now: number): AuditQuery {
  const text = (name: string) => flags[name] as string | undefined;
  const event = text("event");
  const known = AUDIT_EVENTS.find((candidate) => candidate === event);
  if (event !== undefined && known === undefined) {
    throw new UsageError(`--event is none of ${AUDIT_EVENTS.join(", ")}`);
  }
  const limit = text("limit") ?? "100";
  if (!/^[1-9][0-9]{0,4}$/.test(limit) || Number(limit) > MAX_LIMIT) {
    throw new UsageError(`--limit is no number from 1 to ${MAX_LIMIT}`);
  }
  const values = {
    from: readTime("since", { text: text("since"), now }),
    to: readTime("until", { text: text("until"), now }),
    who: text("who"),
    target: text("service"),
    outcome: text("outcome"),
    event: known,
  };
  const given = Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined));
  return { ...given, limit: Number(limit) };
}

/** A point in time, or how long ago. */
function readTime(
  flag: string,
  { text, now }: { readonly text: string | undefined; readonly now: number },
): number | undefined {
  if (text === undefined) return undefined;
  const [, count, unit] = /^([0-9]{1,9})([smhd])$/.exec(text) ?? [];
  const time = count === undefined ? Date.parse(text) : now - Number(count) * UNITS[unit!]!;
  if (Number.isNaN(time)) throw new UsageError(`--${flag} is no time: write 2026-01-31T12:00:00Z or 24h`);
  return time;
}

/** One line for a person. What a peer wrote must not steer the terminal. */
function formatEntry({ time, event, who, target, outcome, detail }: AuditEntry): string {
  const more = Object.keys(detail).length === 0 ? "" : `  ${JSON.stringify(detail)}`;
  const line = `${new Date(time).toISOString()}  ${event.padEnd(7)}  ${outcome}  ${who}  ${target}${more}`;
  return `${line.replace(/\p{C}/gu, (character) => `\\u{${character.codePointAt(0)!.toString(16)}}`)}\n`;
}

function toJson(value: object): string {
  return JSON.stringify(value, undefined, 2) + "\n";
}
