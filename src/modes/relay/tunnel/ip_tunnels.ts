/**
 * The IP tunnels of a relay: its interface and NAT, the addresses of clients, the egress policy in force, and every
 * connect-ip request from its answer to its end.
 */

import { setImmediate } from "node:timers";
import { errorMessage, ProtocolError } from "../../../base/errors.ts";
import { type IpAddress, ipBits, type IpPrefix } from "../../../base/ip.ts";
import type { Logger } from "../../../base/log.ts";
import { loadEgress } from "../../../config/egress_file.ts";
import type { RelayTunnelConfig } from "../../../config/schema/tunnel.ts";
import type { EgressIdentity } from "../../../core/egress/document.ts";
import { EgressEngine } from "../../../core/egress/engine.ts";
import type { FlowEntry } from "../../../core/egress/flow.ts";
import { compileEgress, type EgressSnapshot } from "../../../core/egress/snapshot.ts";
import { Ipam, type Lease } from "../../../core/ipam.ts";
import type { PolicySnapshot } from "../../../core/policy/snapshot.ts";
import type { ServerRequest } from "../../../dataplane/carrier.ts";
import { ConnectIp, MIN_MTU } from "../../../dataplane/tunnel/connect_ip.ts";
import { TunnelHub } from "../../../dataplane/tunnel/hub.ts";
import type { PacketDevice } from "../../../dataplane/tunnel/packet_device.ts";
import type { TunnelSession } from "../../../dataplane/tunnel/tunnel_session.ts";
import type { SpiffeId } from "../../../identity/spiffe_id.ts";
import { HostNetwork } from "../../../io/network/host_network.ts";
import { openTun } from "../../../io/tun/device.ts";
import { LeaseJournal } from "../../../store/lease_journal.ts";
import type { AuditLog } from "../../../telemetry/audit.ts";
import type { IpRequest } from "../dispatcher.ts";
import { type Refusal, REFUSALS } from "../refusal.ts";
import { WatchedDocument } from "../watched_document.ts";
import { poolsOf, reservationsOf } from "./address_plan.ts";
import { auditClose, auditDecision } from "./egress_audit.ts";
import { OwnAddresses } from "./own_addresses.ts";
import { resolveScope } from "./scope.ts";
import { TunnelRequest, type TunnelRequestOptions } from "./tunnel_request.ts";

/** What tunnels need of their relay. */
export interface IpTunnelsOptions {
  readonly config: RelayTunnelConfig;
  readonly trustDomain: string;
  readonly policy: () => PolicySnapshot;
  readonly audit: AuditLog;
  readonly logger: Logger;
}

/** The name under which the audit log has tunnels. */
const TUNNEL = "ip-tunnel";

/** Flows remembered for all clients together; at some 300 bytes each 60 MB. */
const MAX_FLOWS = 200_000;

/** Milliseconds after the start in which connections go on that began before it. */
const ADOPTION = 120_000;

/** Milliseconds between looks at idle flows, counters and MTUs. */
const TICK = 1_000;

/** Ticks between looks at what was learned by name and is over: each goes through a client's flows. */
const EXPIRY_TICKS = 5;

interface Parts {
  readonly egress: WatchedDocument<EgressSnapshot>;
  readonly journal: LeaseJournal;
  readonly ipam: Ipam;
  readonly network: HostNetwork;
  readonly device: PacketDevice;
  readonly pools: readonly IpPrefix[];
}

/** All tunnels of one relay. */
export class IpTunnels {
  readonly #options: IpTunnelsOptions;
  readonly #egress: WatchedDocument<EgressSnapshot>;
  readonly #journal: LeaseJournal;
  readonly #ipam: Ipam;
  readonly #network: HostNetwork;
  readonly #device: PacketDevice;
  readonly #engine: EgressEngine;
  readonly #hub: TunnelHub;
  readonly #running: Promise<void>;
  readonly #requests = new Map<TunnelSession, TunnelRequest>();
  readonly #timer: ReturnType<typeof setInterval>;
  #mtu = MIN_MTU;
  #ticks = 0;
  #problem: string | undefined;
  #closing: Promise<void> | undefined;

  /** Sets everything up; rejects with an error that says what is missing. What was set up until then is undone. */
  static async start(options: IpTunnelsOptions): Promise<IpTunnels> {
    const { config, trustDomain, logger } = options;
    const { ipv4, ipv6 } = await poolsOf(config, trustDomain);
    const pools = [ipv4, ipv6].filter((pool) => pool !== null);
    const holder: { tunnels?: IpTunnels } = {};
    await using undo = new AsyncDisposableStack();
    const egress = await WatchedDocument.open({
      name: "egress_policy",
      paths: config.policy,
      load: () => loadSnapshot(config.policy, { trustDomain, pools, logger }),
      logger,
      onChange: () => holder.tunnels?.policyChanged(),
    });
    undo.defer(() => egress.close());
    const { leases, journal } = await LeaseJournal.open(config.leases, { logger });
    undo.use(journal);
    const reservations = reservationsOf(config.reservations, trustDomain);
    const ipam = new Ipam({ ipv4, ipv6, reservations, leaseTime: config.leaseTime });
    for (const lost of ipam.restore(leases)) {
      logger.warn("lease_dropped", { identity: lost.identity, reason: "it fits no pool any more" });
      journal.release(lost.identity);
    }
    const keepNat = config.nat === "masquerade";
    const network = undo.use(await HostNetwork.open(config.interface, { logger, keepNat }));
    const device = openTun({ name: config.interface, mtu: MIN_MTU });
    undo.defer(() => device.close());
    const gateways = [ipam.gateway(4), ipam.gateway(6)].filter((gateway) => gateway !== null);
    await network.interface.apply({ addresses: withLengths(gateways, pools), mtu: MIN_MTU, up: true });
    for (const warning of await network.nat.apply({ mode: config.nat, pools, gateways })) {
      logger.warn("tunnel_network", { detail: warning });
    }
    const tunnels = new IpTunnels(options, { egress, journal, ipam, network, device, pools });
    holder.tunnels = tunnels;
    undo.move();
    logger.info("tunnels_started", { interface: device.name, nat: config.nat });
    return tunnels;
  }

  private constructor(options: IpTunnelsOptions, parts: Parts) {
    const { audit, config, logger } = options;
    this.#options = options;
    this.#egress = parts.egress;
    this.#journal = parts.journal;
    this.#ipam = parts.ipam;
    this.#network = parts.network;
    this.#device = parts.device;
    const own = new OwnAddresses({ except: parts.pools });
    this.#engine = new EgressEngine({
      capacityPerClient: config.maxFlows,
      capacity: MAX_FLOWS,
      adoptsUntil: Date.now() + ADOPTION,
      // Whoever knew it could choose flows that fall together in the table.
      seed: crypto.getRandomValues(new Uint32Array(1))[0]!,
      identityAt: (version, w0, w1, w2, w3) => this.#hub.identityAt(version, w0, w1, w2, w3),
      isOwnAddress: (address) => own.contains(address),
    });
    this.#hub = new TunnelHub({
      device: parts.device,
      engine: this.#engine,
      gateway4: parts.ipam.gateway(4),
      gateway6: parts.ipam.gateway(6),
      pools: parts.pools,
      schedule: setImmediate,
      now: Date.now,
      onDecision: ({ identity }, flow) => auditDecision(audit, identity.uri, flow),
      onClosedFlow: (identity, flow) => this.#closedFlow(identity, flow),
      onLearned: (session) => void this.#requests.get(session)?.advertise(Date.now()).catch(ignore),
      onDrops: ({ identity }, drops) => logger.info("tunnel_drops", { identity: identity.uri, ...drops }),
      onError: (error) => logger.error("tunnel_failed", { detail: errorMessage(error) }),
    });
    this.#running = this.#hub.run().catch((error) => {
      logger.error("tunnel_device_failed", { interface: config.interface, detail: errorMessage(error) });
      this.#problem = "the tunnel interface has failed";
    });
    this.#journal.watch((identity) => this.#released(identity));
    this.#timer = setInterval(() => this.#tick(), TICK);
  }

  /** Why tunnels carry nothing, for readiness; undefined while they do. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /** Serves a connect-ip request until it ends; returns why not, without an answer, when it may not be served. */
  async serve(
    request: ServerRequest,
    { id, ip }: { readonly id: SpiffeId; readonly ip: IpRequest },
  ): Promise<Refusal | undefined> {
    const { config, audit } = this.#options;
    if (ip.dialect === "zgate" && !config.dialects.includes("zgate")) return REFUSALS.noTunnels;
    const deny = (refusal: Refusal, reason: string) => {
      audit.record({ event: "deny", who: id.uri, service: TUNNEL, outcome: String(refusal.status), reason });
      return refusal;
    };
    if (this.#closing !== undefined) return REFUSALS.draining;
    if (this.#egress.value.rulesFor(this.#identityOf(id)) === undefined) {
      return deny(REFUSALS.denied, "no_rules");
    }
    const scope = await resolveScope(ip);
    if (scope === undefined) return deny(REFUSALS.unresolved, "target_unresolved");
    // Asked again: the policy may have changed while the name was looked up.
    const identity = this.#identityOf(id);
    if (this.#egress.value.rulesFor(identity) === undefined) return deny(REFUSALS.denied, "no_rules");
    const lease = this.#allocate(id.uri);
    if (lease === undefined) return deny(REFUSALS.noAddress, "pool_exhausted");
    this.#ipam.hold(id.uri);
    try {
      // What a client is told it has must survive a crash; a disk that fails is in the log, and costs no service.
      await this.#journal.flushed().catch(ignore);
      const addresses = [lease.ipv4, lease.ipv6].filter((address) => address !== null);
      const routes = config.routes === "policy" ? undefined : config.routes;
      await this.#carry(request, { identity, addresses, scope, routes, dialect: ip.dialect });
    } finally {
      this.#ipam.unhold(id.uri, Date.now());
      const left = this.#ipam.leaseOf(id.uri);
      if (left !== undefined) this.#journal.record(left);
    }
    return undefined;
  }

  /** Attributes or rules changed: every client is judged by the new ones; who lost all of them loses its tunnel. */
  policyChanged(): void {
    this.#engine.peersChanged();
    for (const request of this.#requests.values()) {
      const identity = request.identity as LiveIdentity;
      identity.attributes = this.#attributesOf(identity.uri);
      const rules = this.#egress.value.rulesFor(identity);
      if (rules === undefined) {
        this.#options.logger.info("tunnel_withdrawn", { identity: identity.uri });
      }
      request.setRules(rules, Date.now()).catch(ignore);
    }
  }

  /** Reads the egress policy again. */
  reload(): Promise<void> {
    return this.#egress.reload();
  }

  /** Ends every tunnel and takes back what was set up. Idempotent. */
  close(): Promise<void> {
    return this.#closing ??= this.#close();
  }

  async #carry(
    request: ServerRequest,
    wish: Omit<TunnelRequestOptions, "connectIp" | "session" | "rules"> & {
      readonly identity: LiveIdentity;
      readonly dialect: "rfc9484" | "zgate";
    },
  ): Promise<void> {
    const { audit, logger } = this.#options;
    const { identity, addresses, scope, dialect } = wish;
    const body = await request.respond({ status: 200, headers: [["capsule-protocol", "?1"]] });
    // A peer can delay its answer for as long as it likes: what was true before may not be any more.
    identity.attributes = this.#attributesOf(identity.uri);
    const rules = this.#egress.value.rulesFor(identity);
    if (rules === undefined || !this.#hasLeased(identity.uri, addresses) || this.#closing !== undefined) {
      return body.abort();
    }
    const connectIp: ConnectIp = new ConnectIp({
      body,
      datagrams: request.datagrams,
      dialect,
      onPacket: (packet) => session.receive(packet),
      onRequest: (wishes) => void tunnel.answer(wishes).catch(ignore),
    });
    const session: TunnelSession = this.#hub.attach({
      identity,
      addresses,
      scope,
      link: connectIp,
      client: this.#engine.client({ identity: identity.uri, rules }),
      onReplaced: () => connectIp.abort(),
    });
    const tunnel = new TunnelRequest({ ...wish, rules, connectIp, session });
    this.#requests.set(session, tunnel);
    const started = Date.now();
    audit.record({ event: "connect", who: identity.uri, service: TUNNEL, outcome: "open" });
    logger.info("tunnel_opened", { identity: identity.uri, tunnels: this.#requests.size });
    let outcome = "closed";
    try {
      // The first words and the peer's side by side: a peer that does not read must not keep us from reading.
      await Promise.all([connectIp.run(), tunnel.begin(started)]);
    } catch (error) {
      outcome = "broken";
      const level = error instanceof ProtocolError ? "warn" : "debug";
      logger[level]("tunnel_broken", { identity: identity.uri, detail: errorMessage(error) });
    } finally {
      connectIp.abort();
      session.detach();
      this.#requests.delete(session);
      const { packetsIn, packetsOut, bytesIn, bytesOut } = session.counters;
      const durationMs = Date.now() - started;
      audit.record({
        event: "close",
        who: identity.uri,
        service: TUNNEL,
        outcome,
        packetsIn,
        packetsOut,
        bytesIn,
        bytesOut,
        durationMs,
      });
      const { unauditedRefusals } = session;
      logger.info("tunnel_closed", {
        identity: identity.uri,
        ...session.counters.drops(),
        unauditedRefusals,
      });
    }
  }

  #allocate(identity: string): Lease | undefined {
    const allocation = this.#ipam.allocate(identity, Date.now());
    if (!allocation.ok) {
      this.#options.logger.warn("tunnel_pool_exhausted", { pools: this.#ipam.stats() });
      return undefined;
    }
    if (allocation.reclaimed !== undefined) this.#journal.release(allocation.reclaimed);
    this.#journal.record(allocation.lease);
    return allocation.lease;
  }

  #hasLeased(identity: string, addresses: readonly IpAddress[]): boolean {
    const lease = this.#ipam.leaseOf(identity);
    return addresses.every(({ version, value }) =>
      (version === 4 ? lease?.ipv4 : lease?.ipv6)?.value === value
    );
  }

  /** An administrator released a lease: its tunnel ends, and the next one gets what is free then. */
  #released(identity: string): void {
    // Its session lets go of the addresses before anybody else can be given them.
    for (const request of this.#requests.values()) if (request.identity.uri === identity) request.close();
    this.#ipam.release(identity);
  }

  #identityOf({ uri, kind, name }: SpiffeId): LiveIdentity {
    return { uri, kind, name, attributes: this.#attributesOf(uri) };
  }

  #attributesOf(uri: string): ReadonlySet<string> {
    return this.#options.policy().attributesOf(uri) ?? new Set();
  }

  #tick(): void {
    this.#hub.tick();
    if (++this.#ticks % EXPIRY_TICKS === 0) {
      for (const request of this.#requests.values()) request.withdrawExpired(Date.now()).catch(ignore);
    }
    let mtu = MIN_MTU;
    for (const request of this.#requests.values()) mtu = Math.max(mtu, request.mtu);
    if (mtu === this.#mtu) return;
    this.#mtu = mtu;
    try {
      this.#device.setMtu(mtu);
    } catch (error) {
      this.#options.logger.warn("tunnel_mtu_not_set", { mtu, detail: errorMessage(error) });
    }
  }

  #closedFlow(identity: string, flow: FlowEntry): void {
    auditClose(this.#options.audit, identity, { flow, now: Date.now() });
  }

  async #close(): Promise<void> {
    clearInterval(this.#timer);
    for (const request of this.#requests.values()) request.close();
    this.#hub.close();
    await this.#running;
    // What flows have carried until now is written down too; some are closed by each call.
    for (let left = Infinity; this.#engine.size > 0 && this.#engine.size < left;) {
      left = this.#engine.size;
      this.#engine.expire(Infinity, (flow, { identity }) => this.#closedFlow(identity, flow));
    }
    this.#egress.close();
    await this.#network.close().catch((error) => {
      this.#options.logger.error("tunnel_network_left", { detail: errorMessage(error) });
    });
    await this.#journal.close();
  }
}

/** An identity whose attributes follow the policy. */
interface LiveIdentity extends EgressIdentity {
  attributes: ReadonlySet<string>;
}

async function loadSnapshot(
  paths: readonly string[],
  { trustDomain, pools, logger }: {
    readonly trustDomain: string;
    readonly pools: readonly IpPrefix[];
    readonly logger: Logger;
  },
): Promise<EgressSnapshot> {
  const snapshot = compileEgress(await loadEgress(paths), { trustDomain, pools });
  for (const warning of snapshot.warnings) logger.warn("egress_rule_never_matches", { ...warning });
  return snapshot;
}

function withLengths(
  gateways: readonly IpAddress[],
  pools: readonly IpPrefix[],
): { readonly address: IpAddress; readonly prefixLength: number }[] {
  return gateways.map((address) => ({
    address,
    prefixLength: pools.find(({ version }) => version === address.version)?.length ?? ipBits(address.version),
  }));
}

function ignore(): void {}
