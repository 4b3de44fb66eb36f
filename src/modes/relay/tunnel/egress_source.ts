/** Where the egress policy in force comes from: files of this relay, or the controller it follows. */

import { errorMessage } from "../../../base/errors.ts";
import type { IpPrefix } from "../../../base/ip.ts";
import type { Logger } from "../../../base/log.ts";
import { loadEgress, parseEgress } from "../../../config/egress_file.ts";
import type { EgressDocument } from "../../../core/egress/document.ts";
import { compileEgress, type EgressSnapshot } from "../../../core/egress/snapshot.ts";
import { WatchedDocument } from "../watched_document.ts";

/** An egress policy as a controller states it, in the shape of egress policy files; null: no tunnels for anybody. */
export type StatedEgress = Readonly<Record<string, unknown>> | null;

/** The egress policy in force. */
export interface EgressSource {
  readonly value: EgressSnapshot;
  reload(): Promise<void>;
  close(): void;
}

/** What is needed to compile a policy. */
export interface EgressSourceOptions {
  readonly trustDomain: string;
  readonly pools: readonly IpPrefix[];
  readonly logger: Logger;
}

/** Reads policy files, again when they change. */
export function watchEgress(
  paths: readonly string[],
  options: EgressSourceOptions & { readonly onChange: () => void },
): Promise<EgressSource> {
  const { logger, onChange } = options;
  return WatchedDocument.open({
    name: "egress_policy",
    paths,
    load: async () => compile(await loadEgress(paths), options),
    logger,
    onChange,
  });
}

/** Takes the policy from whoever follows the controller. */
export class StatedEgressSource implements EgressSource {
  readonly #options: EgressSourceOptions;
  #value: EgressSnapshot;

  constructor(stated: StatedEgress, options: EgressSourceOptions) {
    this.#options = options;
    this.#value = compileStated(null, options);
    this.set(stated);
  }

  get value(): EgressSnapshot {
    return this.#value;
  }

  /** Puts another policy in force; one that cannot be read changes nothing but the log. */
  set(stated: StatedEgress): void {
    try {
      this.#value = compileStated(stated, this.#options);
    } catch (error) {
      const detail = errorMessage(error);
      this.#options.logger.error("egress_policy_refused", {
        detail,
        kept: "the egress policy in force before",
      });
    }
  }

  reload(): Promise<void> {
    return Promise.resolve();
  }

  close(): void {}
}

function compileStated(stated: StatedEgress, options: EgressSourceOptions): EgressSnapshot {
  if (stated === null) {
    return compileEgress({ name: "", defaultAction: "drop", resolvers: null, clients: [] }, options);
  }
  const document = parseEgress([{ file: "egress policy.json", text: JSON.stringify(stated) }]);
  return compile(document, { ...options, hasLogins: true });
}

function compile(
  document: EgressDocument,
  options: EgressSourceOptions & { readonly hasLogins?: boolean },
): EgressSnapshot {
  const snapshot = compileEgress(document, options);
  for (const warning of snapshot.warnings) options.logger.warn("egress_rule_never_matches", { ...warning });
  return snapshot;
}
