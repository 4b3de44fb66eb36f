/** Reads policy files (YAML or JSON) into one document; every mistake is reported as `file:line:column`. */

import type { PolicyDocument } from "../core/policy/document.ts";

/**
 * Reads and joins policy files. A file holds a whole document, a single service policy, or a list of those.
 * Throws `ConfigError` with code `ERR_POLICY`.
 */
export function loadPolicy(_paths: readonly string[]): Promise<PolicyDocument> {
  throw new Error("not yet");
}
