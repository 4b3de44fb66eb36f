/**
 * Names are asked of the tunnel's servers while it is up: by systemd-resolved where this machine uses it, otherwise by
 * a resolv.conf of ours in place of the one that was there. That one comes back, unless somebody changed ours since.
 */

import { pathExists, removeIfPresent } from "../../base/paths.ts";
import { errorMessage, GinnelError } from "../../base/errors.ts";
import { formatIp, type IpAddress } from "../../base/ip.ts";
import { checkInterfaceName } from "./interface_name.ts";
import type { NetworkContext } from "./context.ts";
import { MAX_RESOLVER_TEXT } from "./journal_data.ts";
import { asksResolved, readMark, renderResolvConf } from "./resolv_conf.ts";
import { Serial } from "./serial.ts";

/** Whose resolver, and where its file lies. */
export interface TunnelDnsOptions {
  readonly interface: string;
  /** Default /etc/resolv.conf. */
  readonly path?: string;
}

/** The resolver set-up of one tunnel interface. */
export class TunnelDns implements AsyncDisposable {
  readonly #name: string;
  readonly #path: string;
  readonly #context: NetworkContext;
  readonly #serial = new Serial();
  /** The servers in force, where systemd-resolved has them. */
  #resolved: string | undefined;

  constructor({ interface: name, path = "/etc/resolv.conf" }: TunnelDnsOptions, context: NetworkContext) {
    this.#name = checkInterfaceName(name);
    this.#path = path;
    this.#context = context;
  }

  /** Has names asked of `servers` only; none: as before us. */
  apply(servers: readonly IpAddress[]): Promise<void> {
    return this.#serial.run(async () => {
      if (servers.length === 0) return await this.#undo();
      const before = await this.#readFile();
      const kind = this.#context.journal.data.resolver?.kind;
      const wantsResolved = kind === undefined ? asksResolved(before ?? "") : kind === "resolved";
      if (wantsResolved && await this.#applyResolved(servers)) return;
      await this.#applyFile(servers, before);
    });
  }

  /** Has names asked as before us; also puts back what a killed process left. */
  close(): Promise<void> {
    return this.#serial.run(() => this.#undo());
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #applyResolved(servers: readonly IpAddress[]): Promise<boolean> {
    const list = servers.map(formatIp);
    if (this.#resolved === list.join()) return true;
    const { commands, journal, logger } = this.#context;
    await journal.update({ resolver: { kind: "resolved" } });
    const calls = [
      ["dns", this.#name, ...list],
      ["domain", this.#name, "~."],
      ["default-route", this.#name, "yes"],
    ];
    try {
      for (const args of calls) {
        const { code, stderr } = await commands.run("resolvectl", args);
        if (code !== 0) {
          throw new GinnelError(
            "ERR_NETWORK_COMMAND",
            `Cannot set up names: resolvectl says: ${stderr.trim()}`,
          );
        }
      }
    } catch (error) {
      if (!(error instanceof GinnelError)) throw error;
      logger.warn("network_resolved_failed", { reason: error.message });
      await journal.update({ resolver: undefined });
      return false;
    }
    this.#resolved = list.join();
    return true;
  }

  async #applyFile(servers: readonly IpAddress[], before: string | undefined): Promise<void> {
    const { journal } = this.#context;
    const text = renderResolvConf(servers, journal.lockFile);
    if (before === text) return;
    const mark = readMark(before ?? "");
    if (mark !== undefined && await journal.isOwnedByOther(mark.owner)) {
      throw new GinnelError(
        "ERR_DNS_IN_USE",
        `Cannot set up names: ${this.#path} belongs to another tunnel`,
        {
          hint: "Leave tunnel.dns out of one of the two configurations",
        },
      );
    }
    try {
      const kind = mark?.owner === journal.lockFile ? journal.data.resolver?.kind : undefined;
      if (kind === "renamed") return await this.#renameIn(text);
      if (kind === "overwritten") return await Deno.writeTextFile(this.#path, text);
      // Somebody else's file by now, also where ours stood: that is the one to come back.
      if (mark === undefined) return await this.#replace(text, before);
      await this.#restore();
      await this.#replace(text, await this.#readFile());
    } catch (cause) {
      throw new GinnelError("ERR_DNS_FILE", `Cannot set up names: cannot write ${this.#path}`, {
        cause,
        hint: "Run as a user who may write that file, or leave tunnel.dns out",
      });
    }
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
      await Deno.link(this.#path, this.#backup);
      return true;
    } catch (error) {
      this.#context.logger.debug("network_resolver_fixed", { reason: errorMessage(error) });
      return false;
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

  async #undo(): Promise<void> {
    const { journal, commands } = this.#context;
    if (journal.data.resolver?.kind === "resolved") {
      // Where the interface is gone, resolved has forgotten it by itself.
      await commands.run("resolvectl", ["revert", this.#name]);
      this.#resolved = undefined;
    } else await this.#restore();
    await journal.update({ resolver: undefined });
  }

  /** Puts back what stood there, if what stands there now is a dead process's or our own, and unchanged. */
  async #restore(): Promise<void> {
    const { journal, logger } = this.#context;
    const text = await this.#readFile() ?? "";
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

  get #backup(): string {
    return `${this.#path}.ginnel-before`;
  }

  async #readFile(): Promise<string | undefined> {
    try {
      return await Deno.readTextFile(this.#path);
    } catch (error) {
      if (error instanceof Deno.errors.NotFound) return undefined;
      throw new GinnelError("ERR_DNS_FILE", `Cannot read ${this.#path}: ${errorMessage(error)}`, {
        cause: error,
      });
    }
  }
}
