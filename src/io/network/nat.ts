/**
 * The relay's way out: forwarding switched on, clients' packets leave with the relay's address, and nothing else
 * profits from either. One nftables table, removed whole; settings are put back.
 */

import { GinnelError } from "../../base/errors.ts";
import type { IpAddress, IpPrefix, IpVersion } from "../../base/ip.ts";
import { runChecked } from "./commands.ts";
import {
  droppingChains,
  FORWARDING_SWITCH,
  isForwarding,
  planForwarding,
  restoreSettings,
  writeSettings,
} from "./forwarding.ts";
import { checkInterfaceName } from "./interface_name.ts";
import type { NetworkContext } from "./context.ts";
import { readLinkNames } from "./ip_json.ts";
import type { SettingChange } from "./journal_data.ts";
import { KeptTable } from "./kept_table.ts";
import { natTable, natTableName } from "./nft_text.ts";
import { Serial } from "./serial.ts";

/** What the relay wants of the kernel. */
export interface NatConfig {
  /** "none": whoever runs this machine takes care; only checks. */
  readonly mode: "masquerade" | "none";
  readonly pools: readonly IpPrefix[];
  /** The relay's own addresses on the tunnel. */
  readonly gateways: readonly IpAddress[];
}

/** NAT and forwarding for the clients of one tunnel interface. */
export class RelayNat implements AsyncDisposable {
  readonly #name: string;
  readonly #context: NetworkContext;
  readonly #serial = new Serial();
  readonly #table: KeptTable;

  constructor({ interface: name }: { readonly interface: string }, context: NetworkContext) {
    this.#name = checkInterfaceName(name);
    this.#context = context;
    this.#table = new KeptTable(natTableName(name), context);
  }

  /** Sets everything up, or checks it; returns what a person should know, one sentence each. */
  apply(config: NatConfig): Promise<string[]> {
    return this.#serial.run(() => config.mode === "none" ? this.#check(config) : this.#apply(config));
  }

  /** Takes everything back. */
  close(): Promise<void> {
    return this.#serial.run(async () => {
      const { journal, files } = this.#context;
      const { nat } = journal.data;
      if (nat === undefined) return;
      // Forwarding ends before its guard does.
      restoreSettings(nat.settings, files);
      await this.#table.remove("remove the rules for NAT");
      await journal.update({ nat: undefined });
    });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #check(config: NatConfig): Promise<string[]> {
    await Promise.resolve();
    const off = versionsOf(config.pools).filter((version) => !isForwarding(version, this.#context.files));
    return off.map((version) =>
      `IPv${version} forwarding is off, and tunnel.nat is "none": clients reach nothing; switch it on with ` +
      `\`sysctl -w ${sysctlName(version)}=1\``
    );
  }

  async #apply(config: NatConfig): Promise<string[]> {
    const { journal, files } = this.#context;
    const warnings: string[] = [];
    const settings: SettingChange[] = [...journal.data.nat?.settings ?? []];
    const interfaces = await this.#interfaces();
    const versions = versionsOf(config.pools);
    for (const version of versions) {
      if (isForwarding(version, files) === undefined) {
        warnings.push(`This kernel has no IPv${version}: its clients reach nothing by it`);
      }
      // What was remembered first is the state before us.
      const known = new Set(settings.map(({ path }) => path));
      settings.push(...planForwarding(version, { files, interfaces }).filter(({ path }) => !known.has(path)));
    }
    await journal.update({ nat: { settings } });
    const exclusive = versions.filter((version) =>
      settings.some(({ path }) => path === FORWARDING_SWITCH[version])
    );
    const table = natTable({ ...config, interfaceName: this.#name, exclusive });
    await this.#table.put(table, "set up NAT for the tunnel");
    for (const version of versions) {
      warnings.push(...this.#switchOn(version, { settings, alone: versions.length === 1 }));
    }
    return [...warnings, ...await this.#obstacles()];
  }

  /** Switches forwarding on where it is off; where it cannot, that is an error unless the other version is left. */
  #switchOn(
    version: IpVersion,
    { settings, alone }: { readonly settings: readonly SettingChange[]; readonly alone: boolean },
  ): string[] {
    const { files } = this.#context;
    if (isForwarding(version, files) !== false) return [];
    try {
      writeSettings(settings.filter(({ path }) => path.startsWith(`net/ipv${version}/`)), files);
      return [];
    } catch (cause) {
      const message = `Cannot switch on IPv${version} forwarding: ${
        cause instanceof Error ? cause.message : cause
      }`;
      const name = `${sysctlName(version)}=1`;
      const hint = `Switch it on from outside: \`sysctl -w ${name}\`, or \`docker run --sysctl ${name}\``;
      if (version === 6 && !alone) return [`${message}; IPv6 clients reach nothing. ${hint}`];
      throw new GinnelError("ERR_FORWARDING", message, { cause, hint });
    }
  }

  /** Other firewalls that will drop what we let pass: every table has a say. */
  async #obstacles(): Promise<string[]> {
    const text = await runChecked(this.#context.commands, {
      program: "nft",
      args: ["-json", "list", "chains"],
      purpose: "look for other firewalls",
    });
    return droppingChains(text, [natTableName(this.#name)]).map((chain) =>
      `Another firewall (nftables chain ${chain}) drops forwarded packets: have it accept those from and to ${this.#name}`
    );
  }

  async #interfaces(): Promise<string[]> {
    const { commands } = this.#context;
    const text = await runChecked(commands, {
      program: "ip",
      args: ["-json", "link", "show"],
      purpose: "list the interfaces",
    });
    return readLinkNames(text);
  }
}

function versionsOf(pools: readonly IpPrefix[]): IpVersion[] {
  return ([4, 6] as const).filter((version) => pools.some((pool) => pool.version === version));
}

function sysctlName(version: IpVersion): string {
  return FORWARDING_SWITCH[version].replaceAll("/", ".");
}
