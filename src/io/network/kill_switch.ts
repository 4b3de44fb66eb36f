/**
 * The kill switch: what should go through the tunnel goes nowhere else, also while there is no tunnel. It outlives a
 * killed process on purpose, and ends with an orderly close or a start that does not want it.
 */

import type { IpPrefix } from "../../base/ip.ts";
import { checkInterfaceName } from "./interface_name.ts";
import type { NetworkContext } from "./context.ts";
import { KeptTable } from "./kept_table.ts";
import { killSwitchTable, killSwitchTableName, type RelayEndpoint } from "./nft_text.ts";
import { Serial } from "./serial.ts";

/** What must not leave outside the tunnel, and what may. */
export interface KillSwitchConfig {
  /** "full": nothing but loopback, the relays and what keeps the link alive; otherwise just not these prefixes. */
  readonly routes: "full" | readonly IpPrefix[];
  /** Reachable outside the tunnel. Whoever dials relays by name adds its resolver here, port 53. */
  readonly relays: readonly RelayEndpoint[];
  /** Our other interfaces: what they catch leaves through nothing but us. */
  readonly beside?: readonly string[];
}

/** The kill switch of one tunnel interface. */
export class KillSwitch implements AsyncDisposable {
  readonly #name: string;
  readonly #context: NetworkContext;
  readonly #serial = new Serial();
  readonly #table: KeptTable;

  constructor({ interface: name }: { readonly interface: string }, context: NetworkContext) {
    this.#name = checkInterfaceName(name);
    this.#context = context;
    this.#table = new KeptTable(killSwitchTableName(name), context);
  }

  /** Puts it in force, in place of whatever is in force, without a gap. */
  apply(config: KillSwitchConfig): Promise<void> {
    return this.#serial.run(async () => {
      const { journal } = this.#context;
      const table = killSwitchTable({ ...config, interfaceName: this.#name });
      if (journal.data.killSwitch === undefined) await journal.update({ killSwitch: true });
      await this.#table.put(table, "set up the kill switch");
    });
  }

  /** Lifts it. */
  close(): Promise<void> {
    return this.#serial.run(async () => {
      const { journal } = this.#context;
      if (journal.data.killSwitch === undefined) return;
      await this.#table.remove("lift the kill switch");
      await journal.update({ killSwitch: undefined });
    });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
