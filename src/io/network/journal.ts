/**
 * Remembers on disk what was set up around one interface, so that the next start can undo what a killed process
 * left behind. Written before each step is taken. A lock tells a dead owner's journal from a living one's.
 */

import { removeIfPresent } from "../../base/paths.ts";
import { utf8 } from "../../base/bytes.ts";
import { GinnelError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import { findStateDirectory } from "./state_directory.ts";
import { type JournalData, readJournalData } from "./journal_data.ts";
import { type KernelFiles, SYSTEM_FILES } from "./libc.ts";

/** Where the journal lies, and who tells of it. */
export interface JournalOptions {
  readonly logger: Logger;
  /** The folder; default by {@linkcode findStateDirectory}. */
  readonly directory?: string;
  readonly files?: KernelFiles;
}

/** The journal of one interface of this network namespace; we are its only owner while it is open. */
export class NetworkJournal implements AsyncDisposable {
  /** Names interface and namespace, so that equal names in two namespaces do not meet. */
  readonly #key: string;
  readonly #directory: string;
  readonly #lock: Deno.FsFile;
  #data: JournalData;
  #closed = false;

  private constructor(key: string, { directory, lock, data }: OpenJournal) {
    this.#key = key;
    this.#directory = directory;
    this.#lock = lock;
    this.#data = data;
  }

  /** Takes the journal of `interfaceName`; throws `ERR_NETWORK_IN_USE` while another process has it. */
  static async open(interfaceName: string, options: JournalOptions): Promise<NetworkJournal> {
    const { directory = await findStateDirectory(), files = SYSTEM_FILES, logger } = options;
    const key = journalKey(interfaceName, files);
    const lock = await takeLock(lockPath(directory, key));
    if (lock === undefined) {
      throw new GinnelError(
        "ERR_NETWORK_IN_USE",
        `Cannot set up interface ${interfaceName}: another process is using it`,
        {
          hint: "Stop that process, or give this one another interface: services.interface, tunnel.interface",
        },
      );
    }
    try {
      return new NetworkJournal(key, { directory, lock, data: await load(dataPath(directory, key), logger) });
    } catch (error) {
      lock.close();
      throw error;
    }
  }

  /** What is set up, as far as it has to be undone. */
  get data(): JournalData {
    return this.#data;
  }

  /** Replaces parts of the data, on disk first; `undefined` removes a part. */
  async update(changes: { readonly [K in keyof JournalData]?: JournalData[K] | undefined }): Promise<void> {
    const merged = { ...this.#data, ...changes };
    const data = Object.fromEntries(Object.entries(merged).filter(([, value]) => value !== undefined));
    if (JSON.stringify(data) === JSON.stringify(this.#data)) return;
    const path = dataPath(this.#directory, this.#key);
    if (Object.keys(data).length === 0) await removeIfPresent(path);
    else await replaceFile(path, `${JSON.stringify(data)}\n`);
    this.#data = data;
  }

  /** The file that is locked while this journal is open; other processes can tell by it that we live. */
  get lockFile(): string {
    return lockPath(this.#directory, this.#key);
  }

  /** Whether another living process has the journal with that `lockFile`. */
  async isOwnedByOther(lockFile: string): Promise<boolean> {
    return lockFile !== this.lockFile && await isLocked(lockFile);
  }

  /** Gives the journal up. What it still holds is left for the next start. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    // Removed while still locked: whoever waits for it sees that the name is another file by then.
    await removeIfPresent(this.lockFile);
    this.#lock.close();
  }
}

/** What the name of a journal's file says. */
export interface JournalPlace {
  readonly interface: string;
  readonly lockFile: string;
}

/** Reads the path of a lock file. */
export function readLockPath(path: string): JournalPlace | undefined {
  const name = LOCK_FILE.exec(path)?.[1];
  return name === undefined ? undefined : { interface: name, lockFile: path };
}

/** Reads the path of a journal of this network namespace. */
export function readJournalPath(
  path: string,
  { files = SYSTEM_FILES }: { readonly files?: KernelFiles } = {},
): JournalPlace | undefined {
  if (!path.endsWith(".json")) return undefined;
  const place = readLockPath(`${path.slice(0, -".json".length)}.lock`);
  if (place === undefined) return undefined;
  return place.lockFile.endsWith(`/network-${journalKey(place.interface, files)}.lock`) ? place : undefined;
}

/** Whether a living process, or another user, has the journal with that lock file. */
export async function isLocked(lockFile: string): Promise<boolean> {
  if (!LOCK_FILE.test(lockFile)) return false;
  try {
    using file = await Deno.open(lockFile, { read: true });
    return !await file.tryLock(true);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    // Another user's: what we may not see we do not touch.
    if (error instanceof Deno.errors.PermissionDenied) return true;
    throw error;
  }
}

interface OpenJournal {
  readonly directory: string;
  readonly lock: Deno.FsFile;
  readonly data: JournalData;
}

/** What a lock file's path looks like wherever it lies. */
const LOCK_FILE = /^\/[^\0\s]{1,200}\/network-\d{1,10}-([a-z][a-z0-9_.-]{0,14})\.lock$/;

function journalKey(interfaceName: string, files: KernelFiles): string {
  const namespace = /^net:\[(\d+)\]$/.exec(files.readLink("/proc/thread-self/ns/net") ?? "")?.[1] ?? "0";
  return `${namespace}-${interfaceName}`;
}

function lockPath(directory: string, key: string): string {
  return `${directory}/network-${key}.lock`;
}

function dataPath(directory: string, key: string): string {
  return `${directory}/network-${key}.json`;
}

/** Locks the file of that name; `undefined` while another process has it. */
async function takeLock(path: string): Promise<Deno.FsFile | undefined> {
  for (;;) {
    const file = await Deno.open(path, { create: true, write: true, mode: 0o600 });
    if (!await file.tryLock(true)) {
      file.close();
      return undefined;
    }
    // The owner before may have removed the name between our opening and our locking.
    if ((await file.stat()).ino === await inode(path)) return file;
    file.close();
  }
}

async function inode(path: string): Promise<number | null | undefined> {
  try {
    return (await Deno.stat(path)).ino;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

async function load(path: string, logger: Logger): Promise<JournalData> {
  let text: string;
  try {
    text = await Deno.readTextFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return {};
    throw error;
  }
  const data = readJournalData(text);
  if (data !== undefined) return data;
  logger.warn("network_journal_unreadable", { path });
  return {};
}

async function replaceFile(path: string, text: string): Promise<void> {
  const next = `${path}.new`;
  {
    using file = await Deno.open(next, { create: true, truncate: true, write: true, mode: 0o600 });
    const bytes = utf8(text);
    for (let done = 0; done < bytes.length;) done += await file.write(bytes.subarray(done));
    await file.syncData();
  }
  await Deno.rename(next, path);
}
