/**
 * The IP tunnels of a relay: its interface and NAT, the addresses of clients, the egress policy in force, and every
 * connect-ip request from its answer to its end.
 */

import { setImmediate } from "node:timers";
import { errorMessage, ProtocolError } from "../../../base/errors.ts";
import type { IpPrefix } from "../../../base/ip.ts";
import type { Logger } from "../../../base/log.ts";
import type { RelayTunnelConfig } from "../../../config/schema/tunnel.ts";
import type { EgressIdentity } from "../../../core/egress/document.ts";
import { EgressEngine } from "../../../core/egress/engine.ts";
import type { FlowEntry } from "../../../core/egress/flow.ts";
import type { PolicySnapshot } from "../../../core/policy/snapshot.ts";
import type { ServerRequest } from "../../../dataplane/carrier.ts";
import { ConnectIp, MIN_MTU } from "../../../dataplane/tunnel/connect_ip.ts";
import { TunnelHub } from "../../../dataplane/tunnel/hub.ts";
import type { TunnelSession } from "../../../dataplane/tunnel/tunnel_session.ts";
import type { ControllerLink } from "../../../control/sync/link.ts";
import type { SpiffeId } from "../../../identity/spiffe_id.ts";
import type { AuditLog } from "../../../telemetry/audit.ts";
import type { IpRequest } from "../dispatcher.ts";
import { type Refusal, REFUSALS } from "../refusal.ts";
import { gatewaysOf, type Pools, poolsOf, reservationsOf } from "./address_plan.ts";
import { auditClose, auditDecision } from "./egress_audit.ts";
import { type EgressSource, type StatedEgress, StatedEgressSource, watchEgress } from "./egress_source.ts";
import type { Grant, LeaseAuthority } from "./lease_authority.ts";
import { LocalLeases } from "./local_leases.ts";
import { OwnAddresses } from "./own_addresses.ts";
import { resolveScope } from "./scope.ts";
import { SharedLeases } from "./shared_leases.ts";
import { TunnelInterface } from "./tunnel_interface.ts";
import { TunnelRequest, type TunnelRequestOptions } from "./tunnel_request.ts";

/** What tunnels need of their relay. */
export interface IpTunnelsOptions {
  readonly config: RelayTunnelConfig;
  readonly trustDomain: string;
  readonly policy: () => PolicySnapshot;
  readonly audit: AuditLog;
  readonly logger: Logger;
  /** A controller that says what the config's pools, reservations and policy files say without one. */
  readonly controller?: TunnelController;
}

/** Addresses and rules of a relay that follows a controller. */
export interface TunnelController {
  /** The network's pools; other ones need other tunnels. */
  readonly pools: Pools;
  readonly egress: StatedEgress;
  readonly link: Pick<ControllerLink, "allocate" | "touch">;
  /** File that remembers addresses for when the controller is away. */
  readonly leases: string;
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
  readonly egress: EgressSource;
  readonly leases: LeaseAuthority;
  readonly interface: TunnelInterface;
  readonly pools: Pools;
}

/** All tunnels of one relay. */
export class IpTunnels {
  readonly #options: IpTunnelsOptions;
  readonly #egress: EgressSource;
  readonly #leases: LeaseAuthority;
  readonly #interface: TunnelInterface;
  readonly #engine: EgressEngine;
  readonly #hub: TunnelHub;
  readonly #running: Promise<void>;
  readonly #requests = new Map<TunnelSession, TunnelRequest>();
  readonly #timer: ReturnType<typeof setInterval>;
  #ticks = 0;
  #problem: string | undefined;
  #closing: Promise<void> | undefined;

  /** Sets everything up; rejects with an error that says what is missing. What was set up until then is undone. */
  static async start(options: IpTunnelsOptions): Promise<IpTunnels> {
    const { config, controller, trustDomain, logger } = options;
    const pools = controller?.pools ?? await poolsOf(config, trustDomain);
    const prefixes = prefixesOf(pools);
    const holder: { tunnels?: IpTunnels } = {};
    await using undo = new AsyncDisposableStack();
    const rules = { trustDomain, pools: prefixes, logger };
    const egress = controller === undefined
      ? await watchEgress(config.policy, { ...rules, onChange: () => holder.tunnels?.policyChanged() })
      : new StatedEgressSource(controller.egress, rules);
    undo.defer(() => egress.close());
    const leases = undo.use(
      controller === undefined
        ? await LocalLeases.open({
          ...pools,
          reservations: reservationsOf(config.reservations, { trustDomain }),
          leaseTime: config.leaseTime,
          path: config.leases,
          logger,
        })
        : await SharedLeases.open({
          link: controller.link,
          path: controller.leases,
          pools: prefixes,
          logger,
        }),
    );
    const own = gatewaysOf(pools);
    const gateways = [own[4], own[6]].filter((gateway) => gateway !== null);
    const network = undo.use(await TunnelInterface.open({ config, pools: prefixes, gateways, logger }));
    const tunnels = new IpTunnels(options, { egress, leases, interface: network, pools });
    holder.tunnels = tunnels;
    undo.move();
    logger.info("tunnels_started", { interface: network.device.name, nat: config.nat });
    return tunnels;
  }

  private constructor(options: IpTunnelsOptions, parts: Parts) {
    const { audit, config, logger } = options;
    const pools = prefixesOf(parts.pools);
    const gateways = gatewaysOf(parts.pools);
    this.#options = options;
    this.#egress = parts.egress;
    this.#leases = parts.leases;
    this.#interface = parts.interface;
    const own = new OwnAddresses({ except: pools });
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
      device: parts.interface.device,
      engine: this.#engine,
      gateway4: gateways[4],
      gateway6: gateways[6],
      pools,
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
    this.#leases.watch((identity) => this.#end(identity));
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
    const grant = await this.#leases.acquire(id.uri);
    if (!grant.ok) {
      const { refusal, reason } = NO_GRANT[grant.reason];
      return deny(refusal, reason);
    }
    try {
      const { ipv4, ipv6 } = grant.lease;
      const addresses = [ipv4, ipv6].filter((address) => address !== null);
      const routes = config.routes === "policy" ? undefined : config.routes;
      await this.#carry(request, { identity, addresses, scope, routes, dialect: ip.dialect });
    } finally {
      grant.end();
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

  /** The controller stated another egress policy. */
  egressChanged(stated: StatedEgress): void {
    if (!(this.#egress instanceof StatedEgressSource)) return;
    this.#egress.set(stated);
    this.policyChanged();
  }

  /** The controller took an identity's addresses back: its tunnel ends, and the next one gets what is free then. */
  released(identity: string): void {
    if (this.#leases instanceof SharedLeases) this.#leases.released(identity);
  }

  /** The controller is there again: addresses may have been taken back unheard. */
  connected(): void {
    if (this.#leases instanceof SharedLeases) void this.#leases.confirm();
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
    if (
      rules === undefined || !this.#leases.hasLeased(identity.uri, addresses) || this.#closing !== undefined
    ) {
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

  /** An identity lost its addresses: its sessions let go of them at once. */
  #end(identity: string): void {
    for (const request of this.#requests.values()) if (request.identity.uri === identity) request.close();
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
    this.#interface.setMtu(mtu);
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
    await this.#interface.restore();
    await this.#leases.close();
  }
}

/** An identity whose attributes follow the policy. */
interface LiveIdentity extends EgressIdentity {
  attributes: ReadonlySet<string>;
}

/** How a client is told that it gets no address. */
const NO_GRANT = {
  exhausted: { refusal: REFUSALS.noAddress, reason: "pool_exhausted" },
  unavailable: { refusal: REFUSALS.noController, reason: "controller_unavailable" },
  unknown: { refusal: REFUSALS.denied, reason: "identity_unknown" },
} as const satisfies Record<
  (Grant & { ok: false })["reason"],
  { readonly refusal: Refusal; readonly reason: string }
>;

function prefixesOf({ ipv4, ipv6 }: Pools): IpPrefix[] {
  return [ipv4, ipv6].filter((pool) => pool !== null);
}

function ignore(): void {}
