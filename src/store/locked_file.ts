/**
 * A small file that several processes append to and one may replace: every writer holds its lock, and makes sure that the
 * file it locked is still the one under that name. What is appended is on disk when the call returns.
 */

import { dirname } from "node:path";
import { utf8 } from "../base/bytes.ts";
import { errorMessage, GinnelError } from "../base/errors.ts";

/** Mode of the file: who has which address concerns its owner only. */
const MODE = 0o600;

/** Bytes of the largest file that is read: two million leases. */
const MAX_BYTES = 256 << 20;

/** Milliseconds after which a lock that another process holds is given up; its work takes a few. */
const LOCK_TIMEOUT_MS = 5_000;
const LOCK_RETRY_MS = 10;

const NEWLINE = 0x0a;

/** An open file, locked until it is disposed. */
export class LockedFile implements Disposable {
  readonly #file: Deno.FsFile;
  readonly #path: string;
  /** Device and number: what tells this file from its successor. */
  readonly id: string;
  #size: number;

  private constructor(file: Deno.FsFile, path: string, info: Deno.FileInfo) {
    this.#file = file;
    this.#path = path;
    this.id = fileId(info);
    this.#size = info.size;
  }

  /** Opens and locks the file under `path`, made with mode 0600 when it is not there. */
  static async open(path: string): Promise<LockedFile> {
    for (;;) {
      const file = await openFile(path);
      let isKept = false;
      try {
        await lock(file, path);
        const info = await file.stat();
        // Replaced between opening and locking: what is written to the old file is lost.
        if (fileId(info) === fileId(await statIfPresent(path))) {
          isKept = true;
          return new LockedFile(file, path, info);
        }
      } finally {
        if (!isKept) file.close();
      }
    }
  }

  /** Bytes in the file. */
  get size(): number {
    return this.#size;
  }

  /** Reads from an offset to the end, as text. */
  async read(offset = 0): Promise<string> {
    if (this.#size > MAX_BYTES) {
      throw fault("READ", this.#path, new Error(`it has more than ${MAX_BYTES} bytes`));
    }
    const bytes = new Uint8Array(Math.max(0, this.#size - offset));
    await this.#file.seek(offset, Deno.SeekMode.Start);
    let length = 0;
    while (length < bytes.length) {
      const count = await this.#file.read(bytes.subarray(length));
      if (count === null) break;
      length += count;
    }
    return new TextDecoder().decode(bytes.subarray(0, length));
  }

  /** Appends whole lines, and waits until they are on disk. A torn line before them is ended first. */
  async append(lines: string): Promise<void> {
    const bytes = utf8(await this.#endsInLine() ? lines : `\n${lines}`);
    try {
      await writeAll(this.#file, bytes);
      await this.#file.syncData();
    } catch (cause) {
      throw fault("WRITE", this.#path, cause);
    } finally {
      this.#size = (await this.#file.stat()).size;
    }
  }

  /** Replaces the whole file: after a crash it has the old content or the new. This lock is then of no more use. */
  async replace(text: string): Promise<{ readonly id: string; readonly size: number }> {
    const temporary = `${this.#path}.new`;
    try {
      await Deno.remove(temporary).catch(ignoreMissing);
      using file = await Deno.open(temporary, { write: true, createNew: true, mode: MODE });
      await writeAll(file, utf8(text));
      await file.sync();
      const info = await file.stat();
      await Deno.rename(temporary, this.#path);
      using directory = await Deno.open(dirname(this.#path));
      await directory.sync();
      return { id: fileId(info), size: info.size };
    } catch (cause) {
      throw fault("WRITE", this.#path, cause);
    }
  }

  /** Closes the file, which unlocks it. */
  [Symbol.dispose](): void {
    this.#file.close();
  }

  async #endsInLine(): Promise<boolean> {
    if (this.#size === 0) return true;
    await this.#file.seek(-1, Deno.SeekMode.End);
    const last = new Uint8Array(1);
    return await this.#file.read(last) === 1 && last[0] === NEWLINE;
  }
}

/** Takes a lock that is held as long as the process lives or until it is disposed; `undefined` when another has it. */
export async function holdLock(path: string): Promise<Disposable | undefined> {
  const file = await openFile(path);
  if (await file.tryLock(true)) return { [Symbol.dispose]: () => file.close() };
  file.close();
  return undefined;
}

/** What tells whether a file changed: its {@linkcode LockedFile.id} and size; `undefined` when there is none. */
export async function lookAt(
  path: string,
): Promise<{ readonly id: string; readonly size: number } | undefined> {
  const info = await statIfPresent(path);
  return info === undefined ? undefined : { id: fileId(info), size: info.size };
}

/** Reads a whole file without a lock; "" when there is none. */
export async function readUnlocked(path: string): Promise<string> {
  try {
    return new TextDecoder().decode(await Deno.readFile(path));
  } catch (cause) {
    if (cause instanceof Deno.errors.NotFound) return "";
    throw fault("READ", path, cause);
  }
}

async function openFile(path: string): Promise<Deno.FsFile> {
  try {
    return await Deno.open(path, { read: true, append: true, create: true, mode: MODE });
  } catch (cause) {
    throw fault("WRITE", path, cause);
  }
}

async function lock(file: Deno.FsFile, path: string): Promise<void> {
  const deadline = performance.now() + LOCK_TIMEOUT_MS;
  while (!(await file.tryLock(true))) {
    if (performance.now() >= deadline) {
      throw fault("WRITE", path, new Error("another process keeps it locked"));
    }
    await new Promise((resolve) => setTimeout(resolve, LOCK_RETRY_MS));
  }
}

async function writeAll(file: Deno.FsFile, bytes: Uint8Array): Promise<void> {
  for (let offset = 0; offset < bytes.length;) offset += await file.write(bytes.subarray(offset));
}

async function statIfPresent(path: string): Promise<Deno.FileInfo | undefined> {
  try {
    return await Deno.stat(path);
  } catch (error) {
    ignoreMissing(error);
    return undefined;
  }
}

function ignoreMissing(error: unknown): void {
  if (!(error instanceof Deno.errors.NotFound)) throw error;
}

function fileId(info: Deno.FileInfo | undefined): string {
  return info === undefined ? "" : `${info.dev}:${info.ino}`;
}

function fault(act: "READ" | "WRITE", path: string, cause: unknown): GinnelError {
  const code = act === "READ" ? "ERR_LEASES_UNREADABLE" : "ERR_LEASES_UNWRITABLE";
  return new GinnelError(code, `Cannot ${act.toLowerCase()} ${path}: ${errorMessage(cause)}`, {
    cause,
    hint: "Name a file in a folder that the relay may write, as tunnel.leases",
  });
}
