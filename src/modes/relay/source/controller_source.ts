/** A relay that follows a controller, in its own process or behind HTTPS, and goes on with what it knows without one. */

import { join } from "node:path";
import type { Logger } from "../../../base/log.ts";
import { parsePrefix } from "../../../base/ip.ts";
import { VERSION } from "../../../base/version.ts";
import { NetworkFollower, type NetworkPart } from "../../../control/sync/follower.ts";
import type { PolicySnapshot } from "../../../core/policy/snapshot.ts";
import type { CertificateReference } from "../../../identity/chain.ts";
import type { Identity } from "../../../identity/identity_file.ts";
import { AuditSpool } from "../../../store/audit_spool.ts";
import { SnapshotCache } from "../../../store/snapshot_cache.ts";
import type { AuditRecord } from "../../../telemetry/audit.ts";
import { RelayReporter } from "../reporter/relay_reporter.ts";
import { SessionLedger } from "../reporter/session_ledger.ts";
import type { StatedEgress } from "../tunnel/egress_source.ts";
import type { TunnelController } from "../tunnel/ip_tunnels.ts";
import type { ViewSink } from "../view_publisher.ts";
import type { ControllerHome } from "./controller_home.ts";
import type { NetworkSource, SourceChange, SourceTrust } from "./network_source.ts";

/** What a source needs. */
export interface ControllerSourceOptions {
  /** The identity and the link, and what else belongs to the kind of controller. */
  readonly home: ControllerHome;
  /** Folder for what is remembered. */
  readonly data: string;
  readonly logger: Logger;
}

/** Policy, views, addresses and trust from a controller. */
export class ControllerSource implements NetworkSource {
  readonly sessions: SessionLedger;
  readonly #home: ControllerHome;
  readonly #follower: NetworkFollower;
  readonly #reporter: RelayReporter;
  readonly #cache: SnapshotCache;
  readonly #data: string;
  readonly #listeners: ((changed: ReadonlySet<SourceChange>) => void)[] = [];

  /** Starts to follow; resolves once the network is known, from the controller or from disk. */
  static async open({ home, data, logger }: ControllerSourceOptions): Promise<ControllerSource> {
    await using undo = new AsyncDisposableStack();
    undo.use(home);
    await Deno.mkdir(data, { recursive: true, mode: 0o700 });
    const { uri, trustDomain } = home.identity.id;
    const cache = undo.use(await SnapshotCache.open(join(data, "network"), { logger }));
    const follower = undo.use(
      await NetworkFollower.open({ link: home.link, cache, trustDomain, logger, now: Date.now }),
    );
    const sessions = new SessionLedger({ relay: uri, now: Date.now });
    const spool = await AuditSpool.open(join(data, "audit"), { logger, source: uri });
    const reporter = new RelayReporter({
      link: home.link,
      spool,
      sessions,
      status: () => ({ identity: uri, revision: follower.state.revision, version: VERSION }),
      logger,
    });
    undo.move();
    return new ControllerSource({ home, follower, reporter, sessions, cache, data });
  }

  private constructor(
    parts: {
      readonly home: ControllerHome;
      readonly follower: NetworkFollower;
      readonly reporter: RelayReporter;
      readonly sessions: SessionLedger;
      readonly cache: SnapshotCache;
      readonly data: string;
    },
  ) {
    const { home, follower, reporter, sessions, cache, data } = parts;
    this.#home = home;
    this.#follower = follower;
    this.#reporter = reporter;
    this.#cache = cache;
    this.#data = data;
    this.sessions = sessions;
    home.onIdentity(() => this.#tell(new Set(["identity"])));
    follower.onChange((parts) => this.#changed(parts));
    follower.onConnected(() => reporter.retry());
    follower.onRestored(() => sessions.repeat());
    follower.onSessionEnded((session) => void sessions.end(session));
    this.#passNetwork();
  }

  get identity(): Identity {
    return this.#home.identity;
  }

  get snapshot(): PolicySnapshot {
    return this.#follower.policy;
  }

  get trust(): SourceTrust {
    return { roots: this.#follower.roots, foreign: this.#follower.foreign };
  }

  get egress(): StatedEgress {
    return this.#follower.egressDocument;
  }

  get tunnels(): TunnelController {
    const { ipv4, ipv6 } = this.#follower.state.pools;
    return {
      pools: {
        ipv4: ipv4 === null ? null : parsePrefix(ipv4)!,
        ipv6: ipv6 === null ? null : parsePrefix(ipv6)!,
      },
      egress: this.egress,
      link: this.#home.link,
      leases: join(this.#data, "leases.jsonl"),
    };
  }

  get network(): string | undefined {
    return this.#follower.networkJws;
  }

  get problems(): readonly string[] {
    const { connected, ageMs } = this.#follower.status();
    const age = ageMs === undefined ? "of unknown age" : `${Math.round(ageMs / 1_000)} s old`;
    return [
      ...(connected ? [] : [`no controller reached, what is known is ${age}`]),
      ...[this.#reporter.problem].filter((problem) => problem !== undefined),
    ];
  }

  admits({ id, serial }: CertificateReference): boolean | Promise<boolean> {
    return this.#follower.isAdmitted(id.uri, serial) || this.#follower.admits(id.uri, serial);
  }

  isAdmitted({ id, serial }: CertificateReference): boolean {
    const isOfForeign = id.kind !== "workload" ||
      this.#follower.foreign.some(({ domain }) => domain === id.trustDomain);
    return isOfForeign && this.#follower.isAdmitted(id.uri, serial);
  }

  /** The controller knows everybody already. */
  admitted(): void {}

  subscribe(id: string, sink: ViewSink): () => void {
    return this.#follower.subscribeView(id, sink);
  }

  onChange(listener: (changed: ReadonlySet<SourceChange>) => void): void {
    this.#listeners.push(listener);
  }

  onReleased(listener: (identity: string) => void): void {
    this.#follower.onReleased(listener);
  }

  onConnected(listener: () => void): void {
    this.#follower.onConnected(listener);
  }

  audit(record: AuditRecord, time: number): void {
    this.#reporter.audit(record, time);
  }

  reload(): Promise<void> {
    return this.#home.reload();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#reporter.close();
    await this.#follower.close();
    await this.#cache[Symbol.asyncDispose]();
    await this.#home[Symbol.asyncDispose]();
  }

  #changed(parts: ReadonlySet<NetworkPart>): void {
    if (parts.has("network")) this.#passNetwork();
    this.#tell(parts);
  }

  #passNetwork(): void {
    const { networkJws } = this.#follower;
    if (networkJws !== undefined) this.#home.acceptNetwork(networkJws);
  }

  #tell(changed: ReadonlySet<SourceChange>): void {
    for (const listener of this.#listeners) listener(changed);
  }
}
