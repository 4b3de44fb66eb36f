/**
 * The demo's folder, locked while the demo runs: by that the next start tells a killed demo's folder from a living one's.
 */

import { tmpdir } from "node:os";
import { join } from "node:path";

const PREFIX = "ginnel-dev-";
const FOLDER = new RegExp(`^${PREFIX}[0-9a-f]{8}$`);
const LOCK = "lock";

/** A private folder, removed when it is disposed. */
export class DemoFolder implements AsyncDisposable {
  /** The folder's name, unique on this machine: what else the demo makes carries it too. */
  readonly name: string;
  readonly path: string;
  readonly #lock: Deno.FsFile;

  private constructor(name: string, lock: Deno.FsFile) {
    this.name = name;
    this.path = join(tmpdir(), name);
    this.#lock = lock;
  }

  /** Makes a folder, after removing those of killed demos. */
  static async create(): Promise<DemoFolder> {
    await removeDeadFolders();
    const name = PREFIX + crypto.randomUUID().slice(0, 8);
    const path = join(tmpdir(), name);
    await Deno.mkdir(path, { mode: 0o700 });
    // Locked before it has its name: whoever finds it there finds it locked.
    const draft = join(path, `${LOCK}.new`);
    const lock = await Deno.open(draft, { write: true, createNew: true, mode: 0o600 });
    await lock.lock(true);
    await Deno.rename(draft, join(path, LOCK));
    return new DemoFolder(name, lock);
  }

  /** The path of a file in it. */
  file(name: string): string {
    return join(this.path, name);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.path, { recursive: true });
    this.#lock.close();
  }
}

/** Whether the demo with a folder of that name runs. */
export async function isDemoAlive(name: string): Promise<boolean> {
  try {
    using lock = await Deno.open(join(tmpdir(), name, LOCK), { write: true });
    return !(await lock.tryLock(true));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

async function removeDeadFolders(): Promise<void> {
  for await (const { name, isDirectory } of Deno.readDir(tmpdir())) {
    if (!isDirectory || !FOLDER.test(name)) continue;
    const path = join(tmpdir(), name);
    // Others may make folders of any name there; and one without a lock is being made just now.
    const isOurs = async () => (await Deno.lstat(path)).uid === Deno.uid();
    const isLocked = async () => (await Deno.lstat(join(path, LOCK))).isFile;
    try {
      if (await isOurs() && await isLocked() && !(await isDemoAlive(name))) {
        await Deno.remove(path, { recursive: true });
      }
    } catch (error) {
      // Another start removes it at the same time.
      if (!(error instanceof Deno.errors.NotFound)) throw error;
    }
  }
}
