/** One nftables table, replaced or removed as a whole, in one transaction. */

import { type Commands, runChecked } from "./commands.ts";

/** Which table, and what for. */
export interface TableOptions {
  readonly commands: Commands;
  /** What the table is for, as it stands in an error after "Cannot". */
  readonly purpose: string;
}

/** The text that makes a table: its name within family `inet`, and its chains and sets. */
export interface TableText {
  readonly name: string;
  readonly body: string;
}

/** Puts the table in place, whatever stood there before; there is no moment without one of the two. */
export async function replaceTable({ name, body }: TableText, options: TableOptions): Promise<void> {
  await runScript(`${removal(name)}table inet ${name} {\n${body}}\n`, options);
}

/** Removes the table if it is there. */
export async function removeTable(name: string, options: TableOptions): Promise<void> {
  await runScript(removal(name), options);
}

/** The names of all tables of family `inet`. */
export async function tableNames(options: TableOptions): Promise<string[]> {
  const text = await runChecked(options.commands, {
    program: "nft",
    args: ["list", "tables", "inet"],
    purpose: options.purpose,
  });
  return [...text.matchAll(/^table inet (\S+)$/gm)].map((match) => match[1] as string);
}

/** Declared first, it can be deleted whether or not it was there. */
function removal(name: string): string {
  return `table inet ${name}\ndelete table inet ${name}\n`;
}

async function runScript(script: string, { commands, purpose }: TableOptions): Promise<void> {
  await runChecked(commands, { program: "nft", args: ["-f", "-"], stdin: script, purpose });
}
