/**
 * A resolv.conf of ours in place of the one that was there. That one comes back, as the very file it was, unless somebody
 * changed ours since.
 */

import { errorMessage, GinnelError } from "../../base/errors.ts";
import { pathExists, removeIfPresent } from "../../base/paths.ts";
import type { NetworkContext } from "./context.ts";
import { MAX_RESOLVER_TEXT } from "./journal_data.ts";
import { readMark } from "./resolv_conf.ts";

/** Which file, and what to advise where it cannot be ours. */
export interface ResolverFileOptions {
  readonly path: string;
  /** What to leave out of the config, as in `tunnel.dns`. */
  readonly setting: string;
}

/** The file, as far as one interface is concerned. */
export class ResolverFile {
  readonly #path: string;
  readonly #setting: string;
  readonly #context: NetworkContext;

  constructor({ path, setting }: ResolverFileOptions, context: NetworkContext) {
    this.#path = path;
    this.#setting = setting;
    this.#context = context;
  }

  /** What stands there now; `undefined` where there is no file. */
  async read(): Promise<string | undefined> {
    try {
      return await Deno.readTextFile(this.#path);
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return undefined;
      throw new GinnelError("ERR_DNS_FILE", `Cannot read ${this.#path}: ${errorMessage(error)}`, {
        cause: error,
      });
    }
  }

  /** Whether what stands there is this interface's. */
  isOurs(text: string | undefined): boolean {
    return readMark(text ?? "")?.owner === this.#context.journal.lockFile;
  }

  /** Puts a text of ours there, whose first line is our mark. */
  async install(text: string): Promise<void> {
    const { journal } = this.#context;
    const before = await this.read();
    if (before === text) return;
    const mark = readMark(before ?? "");
    if (mark !== undefined && await journal.isOwnedByOther(mark.owner)) {
      throw new GinnelError(
        "ERR_DNS_IN_USE",
        `Cannot set up names: ${this.#path} belongs to another tunnel`,
        { hint: `Leave ${this.#setting} out of one of the two configurations` },
      );
    }
    try {
      const kind = mark?.owner === journal.lockFile ? journal.data.resolver?.kind : undefined;
      if (kind === "renamed") return await this.#renameIn(text);
      if (kind === "overwritten") return await Deno.writeTextFile(this.#path, text);
      // Somebody else's file by now, also where ours stood: that is the one to come back.
      if (mark === undefined) return await this.#replace(text, before);
      await this.restore();
      await this.#replace(text, await this.read());
    } catch (cause) {
      throw new GinnelError("ERR_DNS_FILE", `Cannot set up names: cannot write ${this.#path}`, {
        cause,
        hint: `Run as a user who may write that file, or leave ${this.#setting} out`,
      });
    }
  }

  /** Puts back what stood there, if what stands there now is a dead process's or our own, and unchanged. */
  async restore(): Promise<void> {
    const { journal, logger } = this.#context;
    const text = await this.read() ?? "";
    const mark = readMark(text);
    const kept = journal.data.resolver;
    if (mark === undefined && kept === undefined) return;
    if (mark !== undefined && await journal.isOwnedByOther(mark.owner)) return;
    // Empty: whoever wrote it over was killed in between.
    const ours = mark?.intact ?? (kept?.kind === "overwritten" && text === "");
    if (!ours) {
      logger.warn("network_resolver_changed", { path: this.#path });
      return await removeIfPresent(this.#backup);
    }
    if (kept?.kind === "overwritten") {
      if (kept.text === null) await removeIfPresent(this.#path);
      else await Deno.writeTextFile(this.#path, kept.text);
    } else if (await pathExists(this.#backup)) await Deno.rename(this.#backup, this.#path);
    // The text was in a journal that did not outlive the machine's last start.
    else logger.warn("network_resolver_lost", { path: this.#path });
  }

  /** Puts our file in place for the first time. */
  async #replace(text: string, before: string | undefined): Promise<void> {
    const { journal, logger } = this.#context;
    if (await this.#keepAside()) {
      try {
        await journal.update({ resolver: { kind: "renamed" } });
        return await this.#renameIn(text);
      } catch (error) {
        // Containers have the file mounted on its own: it can be written over, but not replaced.
        logger.debug("network_resolver_fixed", { reason: errorMessage(error) });
        await removeIfPresent(this.#backup);
      }
    }
    if ((before?.length ?? 0) > MAX_RESOLVER_TEXT) {
      throw new RangeError("Cannot remember so long a resolv.conf");
    }
    await journal.update({ resolver: { kind: "overwritten", text: before ?? null } });
    await Deno.writeTextFile(this.#path, text);
  }

  /** Gives the file a second name: that keeps the very file, with owner and rights, and a symbolic link as a link. */
  async #keepAside(): Promise<boolean> {
    try {
      await removeIfPresent(this.#backup);
      if (await this.#leadsToMount()) return false;
      await Deno.link(this.#path, this.#backup);
      return true;
    } catch (error) {
      this.#context.logger.debug("network_resolver_fixed", { reason: errorMessage(error) });
      return false;
    }
  }

  /**
   * Whether the path is a symbolic link to a file that is mounted on its own, as `ip netns exec` does it: the link is the
   * whole machine's, and only what it leads to is ours to change.
   */
  async #leadsToMount(): Promise<boolean> {
    if (!(await Deno.lstat(this.#path)).isSymlink) return false;
    try {
      const target = await Deno.realPath(this.#path);
      const probe = `${target}.ginnel-probe`;
      await removeIfPresent(probe);
      await Deno.link(target, probe);
      await Deno.remove(probe);
      return false;
    } catch (error) {
      // Anything else, such as a link that leads nowhere, says nothing about mounts.
      return (error as { readonly code?: string }).code === "EXDEV";
    }
  }

  async #renameIn(text: string): Promise<void> {
    const next = `${this.#path}.ginnel-new`;
    try {
      await Deno.writeTextFile(next, text, { mode: 0o644 });
      await Deno.rename(next, this.#path);
    } catch (error) {
      await removeIfPresent(next);
      throw error;
    }
  }

  get #backup(): string {
    return `${this.#path}.ginnel-before`;
  }
}
