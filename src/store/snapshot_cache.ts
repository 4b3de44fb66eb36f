/**
 * The network as a relay last knew it, on disk, so that it starts while its controller is away: the state in one file,
 * each view in one of its own. Files are replaced whole, mode 0600; what cannot be read counts as not there.
 */

import { createHash } from "node:crypto";
import { join } from "node:path";
import { sleep } from "../base/async.ts";
import { errorMessage } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import type { NetworkState } from "../core/network/state.ts";
import { stateFromJson, stateTextParts } from "../core/network/state_json.ts";
import { writeSecretFile } from "../identity/secret_file.ts";

/** What is kept besides views. */
export interface CachedNetwork {
  readonly epoch: string;
  readonly state: NetworkState;
  /** The signed network document. */
  readonly network: string | undefined;
}

/** A signed view of one identity. */
export interface CachedView {
  /** SPIFFE ID. */
  readonly identity: string;
  readonly jws: string;
}

/** How to keep it. */
export interface SnapshotCacheOptions {
  readonly logger: Logger;
  /** Milliseconds in which changes are gathered before they are written; default 500. */
  readonly delay?: number;
}

/** Version of the files' form. */
const FORMAT = 1;

/** Bytes of the largest files that are read. */
const MAX_STATE_LENGTH = 256 << 20;
const MAX_VIEW_LENGTH = 8 << 20;

/** Milliseconds between notes of when a controller was last heard of, while nothing else is written. */
const HEARD_INTERVAL = 10_000;

/** Views kept: those that changed last. */
const MAX_VIEWS = 10_000;

/** The cache in one folder, which nobody else writes to. */
export class SnapshotCache implements AsyncDisposable {
  readonly #folder: string;
  readonly #options: SnapshotCacheOptions;
  #state: CachedNetwork | undefined;
  readonly #views = new Map<string, string>();
  #heardAt: number | undefined;
  #heardWritten = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #writing: Promise<void> = Promise.resolve();
  #isClosed = false;
  #hasFailed = false;

  /** Opens the folder, which is made if need be. */
  static async open(folder: string, options: SnapshotCacheOptions): Promise<SnapshotCache> {
    await Deno.mkdir(join(folder, "views"), { recursive: true, mode: 0o700 });
    return new SnapshotCache(folder, options);
  }

  private constructor(folder: string, options: SnapshotCacheOptions) {
    this.#folder = folder;
    this.#options = options;
  }

  /** What was kept; undefined when there is nothing that can be read. */
  async load(): Promise<
    | (CachedNetwork & { readonly views: ReadonlyMap<string, string>; readonly heardAt: number | undefined })
    | undefined
  > {
    try {
      await this.#sweep();
      const text = await readBounded(this.#statePath, MAX_STATE_LENGTH);
      if (text === undefined) return undefined;
      const { format, epoch, state, network } = JSON.parse(text) as Record<string, unknown>;
      if (format !== FORMAT || typeof epoch !== "string") throw new Error("it is of another form");
      return {
        epoch,
        state: stateFromJson(state),
        network: typeof network === "string" ? network : undefined,
        views: await this.#loadViews(),
        heardAt: await this.#loadHeard(),
      };
    } catch (error) {
      const detail = errorMessage(error).slice(0, 200);
      this.#options.logger.warn("network_cache_unreadable", { file: this.#statePath, detail });
      return undefined;
    }
  }

  /** Keeps the network, soon. */
  save(network: CachedNetwork): void {
    this.#state = network;
    this.#schedule();
  }

  /** Keeps views, soon. */
  saveViews(views: readonly CachedView[]): void {
    for (const { identity, jws } of views) this.#views.set(identity, jws);
    this.#schedule();
  }

  /** Notes now and then when a controller was last heard of, milliseconds since the epoch: what is kept is as old. */
  heard(time: number): void {
    this.#heardAt = time;
    if (Math.abs(time - this.#heardWritten) >= HEARD_INTERVAL) this.#schedule();
  }

  /** Resolves when all that was to be kept is on disk. */
  async flush(): Promise<void> {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#writing = this.#writing.then(() => this.#write());
    await this.#writing;
  }

  /** Writes what waits. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.flush();
    this.#isClosed = true;
  }

  get #statePath(): string {
    return join(this.#folder, "network.json");
  }

  get #heardPath(): string {
    return join(this.#folder, "heard.json");
  }

  #schedule(): void {
    if (this.#isClosed) return;
    this.#timer ??= setTimeout(() => void this.flush(), this.#options.delay ?? 500);
  }

  async #write(): Promise<void> {
    try {
      const known = this.#state;
      if (known !== undefined) {
        await writeSecretFile(this.#statePath, await textOf(known), { replace: true });
        if (this.#state === known) this.#state = undefined;
      }
      for (const [identity, jws] of [...this.#views]) {
        await replaceQuickly(this.#viewPath(identity), JSON.stringify({ format: FORMAT, identity, jws }));
        if (this.#views.get(identity) === jws) this.#views.delete(identity);
      }
      const heardAt = this.#heardAt;
      if (heardAt !== undefined && heardAt !== this.#heardWritten) {
        await replaceQuickly(this.#heardPath, JSON.stringify({ format: FORMAT, heardAt }));
        this.#heardWritten = heardAt;
      }
      this.#hasFailed = false;
    } catch (error) {
      if (!this.#hasFailed) {
        this.#options.logger.error("network_cache_not_written", { detail: errorMessage(error) });
      }
      // Said once; the next change tries again.
      this.#hasFailed = true;
    }
  }

  #viewPath(identity: string): string {
    return join(this.#folder, "views", `${createHash("sha256").update(identity).digest("hex")}.json`);
  }

  /** Removes what a crash left half written. */
  async #sweep(): Promise<void> {
    for (const folder of [this.#folder, join(this.#folder, "views")]) {
      for await (const { name } of Deno.readDir(folder)) {
        if (name.endsWith(".tmp")) await Deno.remove(join(folder, name));
      }
    }
  }

  async #loadHeard(): Promise<number | undefined> {
    try {
      const { format, heardAt } = JSON.parse(await readBounded(this.#heardPath, 1_024) ?? "{}");
      return format === FORMAT && typeof heardAt === "number" ? heardAt : undefined;
    } catch {
      // Torn: nobody knows then.
      return undefined;
    }
  }

  async #loadViews(): Promise<ReadonlyMap<string, string>> {
    const files: { readonly path: string; readonly time: number }[] = [];
    for await (const { name, isFile } of Deno.readDir(join(this.#folder, "views"))) {
      const path = join(this.#folder, "views", name);
      if (isFile) files.push({ path, time: (await Deno.stat(path)).mtime?.getTime() ?? 0 });
    }
    files.sort((a, b) => b.time - a.time);
    const views = new Map<string, string>();
    for (const [index, { path }] of files.entries()) {
      if (index >= MAX_VIEWS) {
        await Deno.remove(path);
        continue;
      }
      const view = parseView(await readBounded(path, MAX_VIEW_LENGTH));
      if (view !== undefined && this.#viewPath(view.identity) === path) views.set(view.identity, view.jws);
      else await Deno.remove(path);
    }
    return views;
  }
}

/** For what comes again: a torn file costs nothing, waiting for the disk each time would. */
async function replaceQuickly(path: string, text: string): Promise<void> {
  await Deno.writeTextFile(`${path}.tmp`, text, { mode: 0o600 });
  await Deno.rename(`${path}.tmp`, path);
}

/** Piece by piece: a relay has better things to do than to wait for the text of 10,000 identities. */
async function textOf({ epoch, state, network }: CachedNetwork): Promise<string> {
  const parts = [JSON.stringify({ format: FORMAT, epoch, network }).slice(0, -1), ',"state":'];
  for (const part of stateTextParts(state)) {
    parts.push(part);
    await sleep(0);
  }
  return parts.join("") + "}";
}

async function readBounded(path: string, maxLength: number): Promise<string | undefined> {
  try {
    const { size } = await Deno.stat(path);
    if (size > maxLength) throw new Error(`it has more than ${maxLength} bytes`);
    return await Deno.readTextFile(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}

function parseView(text: string | undefined): CachedView | undefined {
  if (text === undefined) return undefined;
  try {
    const { format, identity, jws } = JSON.parse(text) as Record<string, unknown>;
    if (format !== FORMAT || typeof identity !== "string" || typeof jws !== "string") return undefined;
    return { identity, jws };
  } catch {
    // Torn or altered: the view comes again from the controller.
    return undefined;
  }
}
