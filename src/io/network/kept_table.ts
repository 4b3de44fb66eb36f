/** An nftables table of ours that stays in force while other firewalls come and go. */

import type { NetworkContext } from "./context.ts";
import { removeTable, replaceTable, tableNames, type TableText } from "./nft.ts";

/** A table by its name. Not for use from two sides at once. */
export class KeptTable {
  readonly #name: string;
  readonly #commands: NetworkContext["commands"];
  #body: string | undefined;

  constructor(name: string, { commands }: Pick<NetworkContext, "commands">) {
    this.#name = name;
    this.#commands = commands;
  }

  /** Whether we have put it there. */
  get isPut(): boolean {
    return this.#body !== undefined;
  }

  /** Has exactly this in force, without a gap; `purpose` stands in an error after "Cannot". */
  async put({ body }: Pick<TableText, "body">, purpose: string): Promise<void> {
    const options = { commands: this.#commands, purpose };
    // Asked each time: a firewall that is loaded anew takes our table with it.
    if (this.#body === body && (await tableNames(options)).includes(this.#name)) return;
    await replaceTable({ name: this.#name, body }, options);
    this.#body = body;
  }

  /** Removes it, whoever has put it there. */
  async remove(purpose: string): Promise<void> {
    await removeTable(this.#name, { commands: this.#commands, purpose });
    this.#body = undefined;
  }
}
