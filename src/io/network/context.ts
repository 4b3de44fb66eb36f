/** What every part of the set-up works with. */

import type { Logger } from "../../base/log.ts";
import type { Commands } from "./commands.ts";
import type { NetworkJournal } from "./journal.ts";
import type { KernelFiles } from "./libc.ts";

/** The ways to the kernel, and the memory of what was done there. */
export interface NetworkContext {
  readonly logger: Logger;
  readonly commands: Commands;
  readonly files: KernelFiles;
  readonly journal: NetworkJournal;
}
