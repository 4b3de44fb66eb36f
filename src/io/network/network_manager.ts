/**
 * NetworkManager where it writes resolv.conf itself: a snippet of ours among its settings makes it write our servers. The
 * snippet lies below /run, so that none outlives a restart of the machine.
 */

import { errorMessage } from "../../base/errors.ts";
import { formatIp, type IpAddress, parseIp } from "../../base/ip.ts";
import { pathExists, removeIfPresent } from "../../base/paths.ts";
import type { NetworkContext } from "./context.ts";
import type { ResolverSettings } from "./resolv_conf.ts";

/** Whose snippet, and where it lies. */
export interface NetworkManagerOptions {
  readonly interface: string;
  /** The folder; default /run/NetworkManager/conf.d. */
  readonly folder?: string;
}

/** What NetworkManager is to write. */
export interface GlobalDns extends Pick<ResolverSettings, "search" | "options"> {
  readonly servers: readonly IpAddress[];
}

/** Our snippet. */
export class NetworkManagerDns {
  readonly #folder: string;
  readonly #path: string;
  readonly #context: NetworkContext;

  constructor(options: NetworkManagerOptions, context: NetworkContext) {
    this.#folder = options.folder ?? "/run/NetworkManager/conf.d";
    // Read in the order of their names; the last one counts.
    this.#path = `${this.#folder}/zz-ginnel-${options.interface}.conf`;
    this.#context = context;
  }

  /** Has NetworkManager write these; false where it cannot be told. */
  async apply(wanted: GlobalDns): Promise<boolean> {
    const { journal, logger } = this.#context;
    const text = renderSnippet(wanted);
    try {
      if (await pathExists(this.#path) && await Deno.readTextFile(this.#path) === text) return true;
      if (!await pathExists(this.#folder.slice(0, this.#folder.lastIndexOf("/")))) return false;
      await Deno.mkdir(this.#folder, { recursive: true });
      await journal.update({ resolver: { kind: "networkmanager" } });
      const next = `${this.#path}.new`;
      await Deno.writeTextFile(next, text, { mode: 0o644 });
      await Deno.rename(next, this.#path);
      if (await this.#reload()) return true;
    } catch (error) {
      logger.warn("network_manager_failed", { reason: errorMessage(error) });
    }
    await this.remove();
    return false;
  }

  /** Takes the snippet back, a killed process's too. */
  async remove(): Promise<void> {
    const { journal, logger } = this.#context;
    if (await pathExists(this.#path)) {
      await removeIfPresent(this.#path);
      if (!await this.#reload()) logger.warn("network_manager_not_reloaded", { path: this.#path });
    }
    if (journal.data.resolver?.kind === "networkmanager") await journal.update({ resolver: undefined });
  }

  /** The name servers that its connections bring; none where it does not say. */
  async servers(): Promise<readonly IpAddress[]> {
    try {
      const args = ["-g", "IP4.DNS,IP6.DNS", "device", "show"];
      const { code, stdout } = await this.#context.commands.run("nmcli", args);
      return code === 0 ? readServers(stdout) : [];
    } catch (error) {
      this.#context.logger.debug("network_manager_silent", { reason: errorMessage(error) });
      return [];
    }
  }

  async #reload(): Promise<boolean> {
    try {
      const { code, stderr } = await this.#context.commands.run("nmcli", ["general", "reload"]);
      if (code !== 0) this.#context.logger.warn("network_manager_failed", { reason: stderr.trim() });
      return code === 0;
    } catch (error) {
      this.#context.logger.debug("network_manager_silent", { reason: errorMessage(error) });
      return false;
    }
  }
}

/** What stands between a comma and the next. */
const WORD = /^[A-Za-z0-9_.:-]{1,255}$/;

function renderSnippet({ servers, search, options }: GlobalDns): string {
  const list = (key: string, words: readonly string[]) => {
    const safe = words.filter((word) => WORD.test(word));
    return safe.length === 0 ? "" : `${key}=${safe.join(",")}\n`;
  };
  const shared = list("searches", search) + list("options", options);
  return `# Written by ginnel, removed when it stops.\n[global-dns]\n${shared}\n[global-dns-domain-*]\n${
    list("servers", servers.map(formatIp))
  }`;
}

/** `nmcli` separates addresses by ` | ` and lines, and puts a backslash before colons. */
function readServers(text: string): IpAddress[] {
  const words = text.replaceAll("\\:", ":").split(/[\s|]+/);
  const found = new Map<string, IpAddress>();
  for (const word of words) {
    const address = parseIp(word);
    if (address !== undefined) found.set(formatIp(address), address);
  }
  return [...found.values()];
}
