/** One interface's name servers at systemd-resolved. */

import { GinnelError } from "../../base/errors.ts";
import { formatIp, type IpAddress } from "../../base/ip.ts";
import type { NetworkContext } from "./context.ts";

/** What is to be asked where. */
export interface ResolvedLink {
  readonly servers: readonly IpAddress[];
  /** Domains that are asked of them and nobody else; `.` for everything. */
  readonly domains: readonly string[];
}

/** Name servers of one interface. */
export class ResolvedServers {
  readonly #name: string;
  readonly #context: NetworkContext;
  /** What is in force. */
  #applied: string | undefined;

  constructor(name: string, context: NetworkContext) {
    this.#name = name;
    this.#context = context;
  }

  /** Sets the servers and domains; false where systemd-resolved does not take them. */
  async apply({ servers, domains }: ResolvedLink): Promise<boolean> {
    const list = servers.map(formatIp);
    const wanted = [...list, "", ...domains].join(" ");
    if (this.#applied === wanted) return true;
    const { commands, journal, logger } = this.#context;
    await journal.update({ resolver: { kind: "resolved" } });
    const calls = [
      ["dns", this.#name, ...list],
      ["domain", this.#name, ...domains.map((domain) => `~${domain}`)],
      ["default-route", this.#name, domains.includes(".") ? "yes" : "no"],
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
      // What it took of it must not stay.
      await this.revert().catch(() => {});
      await journal.update({ resolver: undefined });
      return false;
    }
    this.#applied = wanted;
    return true;
  }

  /** Has it forget them. Where the interface is gone, it has by itself. */
  async revert(): Promise<void> {
    this.#applied = undefined;
    await this.#context.commands.run("resolvectl", ["revert", this.#name]);
  }
}
