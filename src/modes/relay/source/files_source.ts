/** A relay that needs no controller: its policy comes from files, and it signs views itself. */

import { errorMessage } from "../../../base/errors.ts";
import type { Logger } from "../../../base/log.ts";
import type { RelaySource } from "../../../config/schema/relay.ts";
import type { PolicySnapshot } from "../../../core/policy/snapshot.ts";
import { formatServiceNetwork, serviceNetworkOf } from "../../../core/service/service_network.ts";
import { loadAuthority } from "../../../identity/authority.ts";
import { type Identity, loadIdentity } from "../../../identity/identity_file.ts";
import type { SpiffeId } from "../../../identity/spiffe_id.ts";
import { openPolicy } from "../open_policy.ts";
import { ViewPublisher, type ViewSink } from "../view_publisher.ts";
import type { WatchedDocument } from "../watched_document.ts";
import type { NetworkSource, SourceChange, SourceTrust } from "./network_source.ts";

type FilesConfig = RelaySource & { readonly kind: "files" };

/** Policy files, an identity file and the authority's key. */
export class FilesSource implements NetworkSource {
  readonly egress = null;
  readonly network = undefined;
  readonly sessions = undefined;
  readonly tunnels = undefined;
  readonly problems = [];
  readonly #config: FilesConfig;
  readonly #logger: Logger;
  readonly #policy: WatchedDocument<PolicySnapshot>;
  readonly #views: ViewPublisher;
  readonly #listeners: ((changed: ReadonlySet<SourceChange>) => void)[] = [];
  /** Every identity admitted since the start: `#all` and attribute policies reach those no document lists. */
  readonly #known = new Set<string>();
  #identity: Identity;

  /** Reads everything; rejects when something is broken. */
  static async open(config: FilesConfig, { logger }: { readonly logger: Logger }): Promise<FilesSource> {
    const identity = await loadIdentity(config.identity);
    const authority = await loadAuthority(config.authority.key);
    const holder: { source?: FilesSource } = {};
    const policy = await openPolicy({
      paths: config.policy,
      trustDomain: identity.id.trustDomain,
      logger,
      onChange: () => holder.source?.policyChanged(),
    });
    const known = new Set<string>();
    const views = new ViewPublisher({
      authority,
      ttl: config.authority.viewTtl,
      services: formatServiceNetwork(serviceNetworkOf(config.services, identity.id.trustDomain)),
      snapshot: () => policy.value,
      connected: () => known,
      logger,
    });
    return holder.source = new FilesSource(config, { identity, policy, views, known, logger });
  }

  private constructor(
    config: FilesConfig,
    parts: {
      readonly identity: Identity;
      readonly policy: WatchedDocument<PolicySnapshot>;
      readonly views: ViewPublisher;
      readonly known: Set<string>;
      readonly logger: Logger;
    },
  ) {
    this.#config = config;
    this.#identity = parts.identity;
    this.#policy = parts.policy;
    this.#views = parts.views;
    this.#known = parts.known;
    this.#logger = parts.logger;
  }

  get identity(): Identity {
    return this.#identity;
  }

  get snapshot(): PolicySnapshot {
    return this.#policy.value;
  }

  get trust(): SourceTrust {
    return this.#identity.trust;
  }

  /** Files name no certificates: whoever the CA vouches for may come, and has the rights of policy. */
  admits(): boolean {
    return true;
  }

  isAdmitted(): boolean {
    return true;
  }

  admitted({ uri, kind }: SpiffeId): void {
    if (this.#known.has(uri)) return;
    this.#known.add(uri);
    // Policies may cover a newcomer already: a caller concerns those who offer services, a connector everybody.
    this.#views.refresh(kind === "connector" || kind === "workload" ? "all" : "binders");
  }

  subscribe(id: string, sink: ViewSink): () => void {
    return this.#views.subscribe(id, sink);
  }

  onChange(listener: (changed: ReadonlySet<SourceChange>) => void): void {
    this.#listeners.push(listener);
  }

  /** Leases of files are the tunnels' own affair. */
  onReleased(): void {}

  /** Files are always there. */
  onConnected(): void {}

  /** Nobody but the log wants to know. */
  audit(): void {}

  async reload(): Promise<void> {
    await this.#policy.reload();
    try {
      this.#identity = await loadIdentity(this.#config.identity);
      this.#tell("identity");
      const notAfter = new Date(this.#identity.notAfter).toISOString();
      this.#logger.info("certificate_reloaded", { notAfter });
    } catch (error) {
      this.#logger.error("certificate_not_reloaded", { detail: errorMessage(error) });
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#views.close();
    this.#policy.close();
    return Promise.resolve();
  }

  /** A new policy is in force. */
  policyChanged(): void {
    this.#tell("policy");
    this.#views.refresh();
  }

  #tell(change: SourceChange): void {
    for (const listener of this.#listeners) listener(new Set([change]));
  }
}
