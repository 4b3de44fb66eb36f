/**
 * What every mode gives its caller: a handle on the running node.
 */

import type { Logger } from "../base/log.ts";

/** What a mode needs besides its config. */
export interface ModeContext {
  readonly logger: Logger;
  /** Shows a person something that must not be logged. */
  readonly announce?: (text: string) => void;
}

/** A running node. */
export interface Running {
  /** Resolves once the node has stopped, for whatever reason. */
  readonly closed: Promise<void>;
  /** Drains and stops the node; resolves when it has stopped. Idempotent. */
  shutdown(reason: string): Promise<void>;
  /** Reads policy and certificates again without dropping sessions; problems are logged and the old state kept. */
  reload(): Promise<void>;
}
