/**
 * The guard of an interface that captures: what comes from services comes from it alone, and what goes to them goes there
 * or nowhere. Without it the kernel takes a packet with a service's address as its source from any interface, and hands it
 * to the program that waits for an answer; it would let other machines speak to services through this one, in its own name
 * where it knows IPv6; and when we are killed it would send what is for services, names among it, to the default gateway.
 */

import { formatPrefix, type IpAddress, type IpPrefix } from "../../base/ip.ts";
import { runBatch } from "./batch.ts";
import type { NetworkContext } from "./context.ts";
import { checkInterfaceName } from "./interface_name.ts";
import { ipv6Usable } from "./ipv6.ts";
import { KeptTable } from "./kept_table.ts";
import { captureGuardTable, captureGuardTableName } from "./nft_text.ts";
import { Serial } from "./serial.ts";

/** What is guarded. */
export interface CaptureGuardConfig {
  /** The interface's own addresses: nobody outside has any business with them. */
  readonly own: readonly IpAddress[];
  /** Whether other machines may have their packets routed into the interface. */
  readonly allowRemoteClients: boolean;
}

/** The last of all routes to a prefix: any other comes before it. */
const LAST = "proto 71 metric 4278198272";

/** The guard of one interface. A killed process leaves it in force; the next start takes it away. */
export class CaptureGuard implements AsyncDisposable {
  readonly #name: string;
  readonly #context: NetworkContext;
  readonly #serial = new Serial();
  readonly #table: KeptTable;

  constructor({ interface: name }: { readonly interface: string }, context: NetworkContext) {
    this.#name = checkInterfaceName(name);
    this.#context = context;
    this.#table = new KeptTable(captureGuardTableName(name), context);
  }

  /** From now on what goes to these prefixes, and has no other route, is refused: before the routes to us, and after. */
  refuse(prefixes: readonly IpPrefix[]): Promise<void> {
    return this.#serial.run(async () => {
      const { commands, logger, journal, files } = this.#context;
      const ipv6 = ipv6Usable(files, "all");
      const wanted = prefixes.filter(({ version }) => version === 4 || ipv6).map(formatPrefix);
      const before = journal.data.refused ?? [];
      const steps = wanted.filter((prefix) => !before.includes(prefix)).map((prefix) => ({
        run: `route replace unreachable ${prefix} ${LAST}`,
        undo: `route del unreachable ${prefix} ${LAST}`,
      }));
      if (steps.length === 0) return;
      await journal.update({ refused: [...before, ...wanted.filter((prefix) => !before.includes(prefix))] });
      await runBatch(steps, { commands, logger, purpose: "refuse what leads to no service" });
    });
  }

  /** Puts the rules in force, in place of whatever is in force. */
  apply(config: CaptureGuardConfig): Promise<void> {
    return this.#serial.run(async () => {
      const table = captureGuardTable({ ...config, interfaceName: this.#name });
      await this.#table.put(table, "guard services' addresses");
    });
  }

  /** Lifts it. */
  close(): Promise<void> {
    return this.#serial.run(async () => {
      const { commands, journal } = this.#context;
      const refused = journal.data.refused ?? [];
      if (refused.length > 0) {
        const lines = refused.map((prefix) => `route del unreachable ${prefix} ${LAST}\n`).join("");
        // Some may be gone already, as after a restart of the machine.
        await commands.run("ip", ["-force", "-batch", "-"], lines);
        await journal.update({ refused: undefined });
      }
      if (this.#table.isPut) await this.#table.remove("lift the guard of services' addresses");
    });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
