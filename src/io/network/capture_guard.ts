/**
 * The guard of an interface that captures: what comes from services comes from it alone. Without a guard the kernel takes
 * a packet with a service's address as its source from any interface, and hands it to the program that waits for an
 * answer; and it would let other machines speak to services through this one, in its own name where it knows IPv6.
 */

import type { IpAddress } from "../../base/ip.ts";
import type { NetworkContext } from "./context.ts";
import { checkInterfaceName } from "./interface_name.ts";
import { captureGuardTable, captureGuardTableName } from "./nft_text.ts";
import { removeTable, replaceTable, tableNames } from "./nft.ts";
import { Serial } from "./serial.ts";

/** What is guarded. */
export interface CaptureGuardConfig {
  /** The interface's own addresses: nobody outside has any business with them. */
  readonly own: readonly IpAddress[];
  /** Whether other machines may have their packets routed into the interface. */
  readonly allowRemoteClients: boolean;
}

/** The guard of one interface. A killed process leaves it; the next start takes it away. */
export class CaptureGuard implements AsyncDisposable {
  readonly #name: string;
  readonly #context: NetworkContext;
  readonly #serial = new Serial();
  #applied: string | undefined;

  constructor({ interface: name }: { readonly interface: string }, context: NetworkContext) {
    this.#name = checkInterfaceName(name);
    this.#context = context;
  }

  /** Puts it in force, in place of whatever is in force. */
  apply(config: CaptureGuardConfig): Promise<void> {
    return this.#serial.run(async () => {
      const table = captureGuardTable({ ...config, interfaceName: this.#name });
      const options = { commands: this.#context.commands, purpose: "guard services' addresses" };
      // Asked each time: a firewall that is loaded anew takes our table with it.
      if (this.#applied === table.body && (await tableNames(options)).includes(table.name)) return;
      await replaceTable(table, options);
      this.#applied = table.body;
    });
  }

  /** Lifts it. */
  close(): Promise<void> {
    return this.#serial.run(async () => {
      if (this.#applied === undefined) return;
      const options = { commands: this.#context.commands, purpose: "lift the guard of services' addresses" };
      await removeTable(captureGuardTableName(this.#name), options);
      this.#applied = undefined;
    });
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
