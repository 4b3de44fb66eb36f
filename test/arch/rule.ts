/** The shape of an architecture rule: what it forbids, why, and a planted violation that it must find. */

import type { SourceTree } from "./source_tree.ts";

/** Files by path, for a planted tree. */
export type Files = Readonly<Record<string, string>>;

/** A rule of the architecture. */
export interface Rule {
  /** Says what holds: `wire/ and core/ have no clock`. */
  readonly name: string;
  /** Why, printed with each violation. */
  readonly reason: string;
  /** Every violation as `path:line: what`. */
  check(tree: SourceTree): string[];
  /** Trees the rule must object to, with what it must say. A rule that cannot fail is no rule. */
  readonly violations: readonly { readonly files: Files; readonly says: RegExp }[];
  /** A tree close to a violation that the rule must accept. */
  readonly fine: Files;
}
