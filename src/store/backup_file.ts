/**
 * The format of backups: JSON lines, the same for both databases, so that one can take the other's place.
 *
 *     {"format":"ginnel-backup","version":1,"schema":1,"revision":42,"createdAt":"…","auditSeq":7,"auditHash":"…"}
 *     {"table":"identities","columns":["id","name",…]}
 *     ["5f…","alice",…]                                   one line a row; times in milliseconds, JSON as text
 *     {"end":true,"lines":1234,"sha256":"…"}              of everything before
 */

import { createHash, type Hash } from "node:crypto";
import { dirname } from "node:path";
import { errorMessage, GinnelError } from "../base/errors.ts";
import { utf8 } from "../base/bytes.ts";

/** What a backup is of. */
export interface BackupHeader {
  readonly format: "ginnel-backup";
  readonly version: 1;
  /** Version of the schema. */
  readonly schema: number;
  /** The network's revision. */
  readonly revision: number;
  /** ISO 8601. */
  readonly createdAt: string;
  /** The head of the audit log. */
  readonly auditSeq: number;
  readonly auditHash: string;
}

/** One part of a backup: the beginning of a table, or a row of the table that began last. */
export type BackupItem =
  | { readonly table: string; readonly columns: readonly string[] }
  | { readonly row: readonly (string | number | boolean | null)[] };

/** Longest line, in characters: a row with an egress policy of 4 MiB, escaped twice. */
const MAX_LINE = 64 << 20;

/** Characters gathered before they are written. */
const CHUNK = 1 << 20;

/** Writes a backup beside its name and gives it the name when it is whole; mode 0600. */
export class BackupWriter implements AsyncDisposable {
  readonly #path: string;
  readonly #part: string;
  readonly #file: Deno.FsFile;
  readonly #hash: Hash = createHash("sha256");
  #text = "";
  #lines = 0;
  #isWhole = false;

  private constructor(path: string, part: string, file: Deno.FsFile) {
    this.#path = path;
    this.#part = part;
    this.#file = file;
  }

  /** Begins a file. */
  static async open(path: string): Promise<BackupWriter> {
    const part = `${path}.${crypto.randomUUID()}.part`;
    try {
      return new BackupWriter(
        path,
        part,
        await Deno.open(part, { createNew: true, write: true, mode: 0o600 }),
      );
    } catch (error) {
      throw unwritable(path, error);
    }
  }

  /** Writes a line. */
  async write(line: BackupHeader | BackupItem): Promise<void> {
    this.#text += `${JSON.stringify("row" in line ? line.row : line)}\n`;
    this.#lines++;
    if (this.#text.length >= CHUNK) await this.#flush();
  }

  /** Ends the file and puts it in its place. */
  async finish(): Promise<void> {
    await this.#flush();
    try {
      const end = { end: true, lines: this.#lines, sha256: this.#hash.digest("hex") };
      await writeAll(this.#file, utf8(`${JSON.stringify(end)}\n`));
      await this.#file.sync();
      await Deno.rename(this.#part, this.#path);
      this.#isWhole = true;
      using folder = await Deno.open(dirname(this.#path));
      await folder.sync();
    } catch (error) {
      throw unwritable(this.#path, error);
    }
  }

  /** Closes the file; one that is not whole is removed. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#file.close();
    if (!this.#isWhole) await Deno.remove(this.#part);
  }

  async #flush(): Promise<void> {
    const bytes = utf8(this.#text);
    this.#text = "";
    this.#hash.update(bytes);
    try {
      await writeAll(this.#file, bytes);
    } catch (error) {
      throw unwritable(this.#path, error);
    }
  }
}

/** A backup that was read to its end once: whole, and as it was written. */
export class BackupFile {
  readonly header: BackupHeader;
  readonly #path: string;

  private constructor(path: string, header: BackupHeader) {
    this.#path = path;
    this.header = header;
  }

  /** Checks a file; throws `GinnelError` when it is no backup, is damaged, or ends too early. */
  static async open(path: string): Promise<BackupFile> {
    const hash = createHash("sha256");
    let header: BackupHeader | undefined;
    let last = "";
    let lines = 0;
    for await (const line of readLines(path)) {
      if (header === undefined) {
        header = readHeader(path, line);
      } else {
        hash.update(`${last}\n`);
        lines++;
      }
      last = line;
    }
    if (header === undefined) throw noBackup(path);
    const end = parse(path, last) as {
      readonly end?: unknown;
      readonly lines?: unknown;
      readonly sha256?: unknown;
    };
    if (end?.end !== true || end.lines !== lines) throw damaged(path, "it ends too early");
    if (end.sha256 !== hash.digest("hex")) throw damaged(path, "its checksum does not match");
    return new BackupFile(path, header);
  }

  /** Its tables and rows, in order. */
  async *items(): AsyncGenerator<BackupItem> {
    let isFirst = true;
    for await (const line of readLines(this.#path)) {
      const value = parse(this.#path, line);
      if (Array.isArray(value)) yield { row: value };
      else if (!isFirst && !("end" in (value as object))) yield value as BackupItem;
      isFirst = false;
    }
  }
}

async function* readLines(path: string): AsyncGenerator<string> {
  let rest = "";
  try {
    using file = await Deno.open(path);
    const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
    const buffer = new Uint8Array(1 << 18);
    for (;;) {
      const count = await file.read(buffer);
      rest += count === null ? decoder.decode() : decoder.decode(buffer.subarray(0, count), { stream: true });
      const lines = rest.split("\n");
      rest = lines.pop() ?? "";
      if (rest.length > MAX_LINE) throw noBackup(path);
      yield* lines;
      if (count === null) break;
    }
  } catch (error) {
    if (error instanceof GinnelError) throw error;
    if (error instanceof TypeError) throw damaged(path, "it is not UTF-8 text");
    throw new GinnelError("ERR_BACKUP_UNREADABLE", `Cannot read ${path}: ${errorMessage(error)}`, {
      cause: error,
    });
  }
  if (rest !== "") throw damaged(path, "it ends too early");
}

function readHeader(path: string, line: string): BackupHeader {
  const header = parse(path, line) as Partial<BackupHeader> | null;
  if (header?.format !== "ginnel-backup") throw noBackup(path);
  if (header.version !== 1) {
    throw new GinnelError(
      "ERR_BACKUP_NEWER",
      `Cannot read ${path}: its format has version ${header.version}`,
      {
        hint: "Run the release that made it, or a newer one",
      },
    );
  }
  return header as BackupHeader;
}

function parse(path: string, line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    throw damaged(path, "a line is not JSON");
  }
}

async function writeAll(file: Deno.FsFile, bytes: Uint8Array): Promise<void> {
  for (let offset = 0; offset < bytes.length;) offset += await file.write(bytes.subarray(offset));
}

function noBackup(path: string): GinnelError {
  return new GinnelError("ERR_BACKUP_UNREADABLE", `Cannot read ${path}: it is no backup of a network`, {
    hint: "Name a file that ginnel backup made",
  });
}

function damaged(path: string, reason: string): GinnelError {
  return new GinnelError("ERR_BACKUP_DAMAGED", `Cannot restore ${path}: ${reason}`, {
    hint: "Use another backup, or copy the file again from where it came",
  });
}

function unwritable(path: string, error: unknown): GinnelError {
  return new GinnelError("ERR_BACKUP_UNWRITABLE", `Cannot write ${path}: ${errorMessage(error)}`, {
    cause: error,
  });
}
