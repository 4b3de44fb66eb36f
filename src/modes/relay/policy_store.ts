/**
 * The policy in force: loaded at start, again when a file changes or on request. A broken file is reported
 * and the old policy stays.
 */

import { errorMessage } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import { loadPolicy } from "../../config/policy_file.ts";
import { compilePolicy, type PolicySnapshot } from "../../core/policy/snapshot.ts";
import { watchFiles } from "../../io/system/watch_files.ts";

/** What a store needs. */
export interface PolicyStoreOptions {
  readonly paths: readonly string[];
  readonly trustDomain: string;
  readonly logger: Logger;
  /** Called after a new policy took force. */
  readonly onChange: () => void;
}

/** Holds the policy in force. */
export class PolicyStore {
  readonly #options: PolicyStoreOptions;
  readonly #stopWatching: () => void;
  #snapshot: PolicySnapshot;
  #reloading: Promise<void> = Promise.resolve();

  private constructor(options: PolicyStoreOptions, snapshot: PolicySnapshot) {
    this.#options = options;
    this.#snapshot = snapshot;
    this.#stopWatching = watchFiles(options.paths, () => void this.reload());
  }

  /** Loads the policy; rejects with a `ConfigError` when it is broken, since there is no old one to keep. */
  static async open(options: PolicyStoreOptions): Promise<PolicyStore> {
    return new PolicyStore(options, await load(options));
  }

  get snapshot(): PolicySnapshot {
    return this.#snapshot;
  }

  /** Reads the files again; a broken one changes nothing but the log. */
  reload(): Promise<void> {
    this.#reloading = this.#reloading.then(async () => {
      try {
        this.#snapshot = await load(this.#options);
      } catch (error) {
        this.#options.logger.error("policy_refused", {
          detail: errorMessage(error),
          kept: "the policy in force before",
        });
        return;
      }
      this.#options.onChange();
    });
    return this.#reloading;
  }

  close(): void {
    this.#stopWatching();
  }
}

async function load(options: PolicyStoreOptions): Promise<PolicySnapshot> {
  const snapshot = compilePolicy(await loadPolicy(options.paths), { trustDomain: options.trustDomain });
  for (const warning of snapshot.warnings) {
    options.logger.debug("policy_role_selects_nothing", { ...warning });
  }
  options.logger.info("policy_loaded", { files: options.paths });
  return snapshot;
}
