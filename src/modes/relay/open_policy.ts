/**
 * Loads the policy of a relay and keeps the one in force.
 */

import type { Logger } from "../../base/log.ts";
import { loadPolicy } from "../../config/policy_file.ts";
import { compilePolicy, type PolicySnapshot } from "../../core/policy/snapshot.ts";
import { WatchedDocument } from "./watched_document.ts";

/** What the policy is made from. */
export interface OpenPolicyOptions {
  readonly paths: readonly string[];
  readonly trustDomain: string;
  readonly logger: Logger;
  /** Called after a new policy took force. */
  readonly onChange: () => void;
}

/** Opens the policy; rejects with a `ConfigError` when it is broken. */
export function openPolicy(options: OpenPolicyOptions): Promise<WatchedDocument<PolicySnapshot>> {
  const { paths, trustDomain, logger } = options;
  return WatchedDocument.open({
    ...options,
    name: "policy",
    load: async () => {
      const snapshot = compilePolicy(await loadPolicy(paths), { trustDomain });
      for (const warning of snapshot.warnings) {
        logger.debug("policy_role_selects_nothing", { ...warning });
      }
      return snapshot;
    },
  });
}
