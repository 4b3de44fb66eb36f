/**
 * Mode `relay`: terminates QUIC and TLS, admits identities, enforces policy, and joins agents to connectors
 * without being able to read what they say.
 */

import { formatHostPort } from "../../base/address.ts";
import type { ByteChannel } from "../../base/channel.ts";
import { errorMessage } from "../../base/errors.ts";
import { sleep } from "../../base/async.ts";
import { listenError } from "../../base/listen_error.ts";
import type { Logger } from "../../base/log.ts";
import type { RelayConfig } from "../../config/schema/relay.ts";
import { ServiceRegistry } from "../../core/registry.ts";
import type { ServerConnection, ServerRequest } from "../../dataplane/carrier.ts";
import type { Identity } from "../../identity/identity_file.ts";
import { ProofVerifier } from "../../identity/proof.ts";
import { listenQuic } from "../../io/quic/listener.ts";
import { listenTls } from "../../io/tls/listener.ts";
import { AuditLog, type AuditRecord } from "../../telemetry/audit.ts";
import { HealthServer } from "../../telemetry/health.ts";
import { H3_NO_ERROR } from "../../wire/h3/codes.ts";
import type { ModeContext, Running } from "../running.ts";
import { CONNECTOR_HEADER, DATAGRAM_SIZE_HEADER, INSTANCE_HEADER } from "../shared/relay_protocol.ts";
import { serveBrowser } from "./browser_session.ts";
import { capsuleChannel } from "./capsule_channel.ts";
import { ConnectorLinks } from "./connector_links.ts";
import { avoidedInstances, type IpRequest, type Route, routeRequest } from "./dispatcher.ts";
import { type DialStreamOptions, serveDial } from "./dial_stream.ts";
import { FlowBroker, type FlowResult } from "./flow_broker.ts";
import { type Peer, Peers } from "./peers.ts";
import { type Refusal, REFUSALS, refuseRequest } from "./refusal.ts";
import type { NetworkSource, SourceChange } from "./source/network_source.ts";
import type { LedgerEntry } from "./reporter/session_ledger.ts";
import { openSource } from "./source/open_source.ts";
import { LiveTunnels } from "./tunnel/live_tunnels.ts";
import { ViewStreams } from "./view_streams.ts";

/** Streams one authenticated connection may have open: its flows. Each may park 1.25 MB in the runtime. */
const MAX_STREAMS = 1_024;

/** Refusals of requests that are no request of ours. */
const ROUTE_REFUSALS: Readonly<Record<(Route & { kind: "refuse" })["status"], Refusal>> = {
  400: REFUSALS.badRequest,
  404: REFUSALS.notFound,
  405: { status: 405, error: "http_request_error", details: "method not supported here" },
  501: { status: 501, error: "http_request_error", details: "protocol not supported here" },
};

/** Starts a relay. */
export async function runRelay(config: RelayConfig, context: ModeContext): Promise<Running> {
  const { logger } = context;
  const holder: { relay?: Relay } = {};
  await using undo = new AsyncDisposableStack();
  // First of all: a relay that waits for its controller says so.
  const health = config.health === null ? undefined : undo.use(
    await HealthServer.start({
      address: config.health,
      logger,
      degraded: () => holder.relay?.problems ?? [],
    }),
  );
  const source = undo.use(await openSource(config, context));
  const relay = await Relay.start({ config, source, health, logger });
  undo.move();
  return holder.relay = relay;
}

interface RelayParts {
  readonly config: RelayConfig;
  readonly source: NetworkSource;
  readonly health: HealthServer | undefined;
  readonly logger: Logger;
}

interface Listener {
  readonly port: number;
  connections(): AsyncIterable<ServerConnection>;
  reload(credentials: { readonly cert: string; readonly key: string }): void;
  close(): Promise<void>;
}

class Relay implements Running {
  readonly closed: Promise<void>;
  readonly #config: RelayConfig;
  readonly #logger: Logger;
  readonly #name: string;
  readonly #audit: AuditLog;
  readonly #source: NetworkSource;
  readonly #verifier: ProofVerifier;
  readonly #viewStreams: ViewStreams;
  readonly #peers: Peers;
  readonly #links: ConnectorLinks;
  readonly #broker: FlowBroker;
  readonly #listeners: Listener[] = [];
  readonly #health: HealthServer | undefined;
  readonly #tunnels: LiveTunnels | undefined;

  /** How flows are opened that are asked for by message. */
  readonly #dials: Omit<DialStreamOptions, "caller"> = {
    open: (flow) =>
      this.#draining ? Promise.resolve({ ok: false, refusal: REFUSALS.draining }) : this.#broker.open(flow),
    keysOf: (instances) => this.#links.keysOf(instances),
  };
  /** What a controller is told of the nodes that are here. */
  readonly #sessions = new WeakMap<ServerConnection, LedgerEntry>();
  #draining = false;
  #stopping: Promise<void> | undefined;
  #resolveClosed: () => void = () => {};

  static async start(parts: RelayParts): Promise<Relay> {
    const { config, source, logger } = parts;
    const forward = (record: AuditRecord, time: number) => source.audit(record, time);
    await using undo = new AsyncDisposableStack();
    const audit = undo.use(await AuditLog.open(config.audit, { logger, forward }));
    const tunnels = config.tunnel === undefined
      ? undefined
      : await LiveTunnels.start({ config: config.tunnel, source, audit, logger });
    if (tunnels !== undefined) undo.defer(() => tunnels.close());
    const relay = new Relay(parts, { audit, tunnels });
    source.onReleased((identity) => tunnels?.released(identity));
    source.onConnected(() => tunnels?.connected());
    source.onChange((changed) => relay.#changed(changed));
    await relay.#listen(source.identity);
    undo.move();
    return relay;
  }

  private constructor(
    { config, source, health, logger }: RelayParts,
    parts: {
      audit: AuditLog;
      tunnels: LiveTunnels | undefined;
    },
  ) {
    this.closed = new Promise((resolve) => this.#resolveClosed = resolve);
    this.#config = config;
    this.#logger = logger;
    this.#name = source.identity.id.name;
    this.#source = source;
    this.#audit = parts.audit;
    this.#health = health;
    this.#tunnels = parts.tunnels;
    const snapshot = () => source.snapshot;
    const registry = new ServiceRegistry(config.limits);
    this.#links = new ConnectorLinks({
      registry,
      snapshot,
      maxServices: config.limits.maxServicesPerConnector,
      onBound: ({ connection }, services) => this.#sessions.get(connection)?.setServices(services),
      onDenied: ({ id }, service, reason) =>
        this.#audit.record({ event: "deny", who: id.uri, service, outcome: "bind_refused", reason }),
      logger,
    });
    this.#peers = new Peers({
      verifier: this.#verifier = new ProofVerifier({
        ...source.trust,
        audience: this.#name,
        trustDomain: source.identity.id.trustDomain,
        now: Date.now,
        admits: (certificate) => source.admits(certificate),
      }),
      limits: config.limits,
      logger,
      onAdmitted: (peer) => this.#admitted(peer),
    });
    this.#viewStreams = new ViewStreams(source, logger);
    this.#broker = new FlowBroker({
      registry,
      snapshot,
      link: (key) => this.#links.get(key),
      audit: this.#audit,
      logger,
    });
  }

  /** What is wrong although the relay works, as short phrases. */
  get problems(): readonly string[] {
    return [this.#audit.problem, this.#tunnels?.problem, ...this.#source.problems]
      .filter((problem) => problem !== undefined);
  }

  /** Reads policy and certificate again. */
  async reload(): Promise<void> {
    await this.#source.reload();
    await this.#tunnels?.reload();
    // Log rotation moves the file away and then asks for a reload.
    this.#audit.reopen();
  }

  shutdown(reason: string): Promise<void> {
    return this.#stopping ??= this.#stop(reason);
  }

  #changed(changed: ReadonlySet<SourceChange>): void {
    if (changed.has("trust") && this.#verifier.updateTrust(this.#source.trust)) void this.#peers.recheck();
    if (changed.has("trust") || changed.has("policy")) {
      // Whoever was disabled, deleted, or enrolled anew elsewhere is out, with everything that runs.
      this.#peers.closeWhere(({ id, serial }) =>
        this.#source.isAdmitted({ id, serial }) ? undefined : "the identity or its certificate was revoked"
      );
    }
    if (changed.has("policy")) {
      // Everything that lost its right ends; views follow from their source.
      this.#broker.policyChanged();
      this.#links.policyChanged();
      this.#tunnels?.policyChanged();
    }
    if (changed.has("egress")) this.#tunnels?.egressChanged();
    if (changed.has("network")) this.#viewStreams.network(this.#source.network);
    if (changed.has("identity")) {
      const { certificatePem: cert, privateKeyPem: key } = this.#source.identity;
      for (const listener of this.#listeners) listener.reload({ cert, key });
    }
  }

  async #listen(identity: Identity): Promise<void> {
    const { listen, limits } = this.#config;
    const shared = {
      cert: identity.certificatePem,
      key: identity.privateKeyPem,
      limits: {
        maxConnections: limits.maxConnections,
        maxUnauthenticated: limits.maxUnauthenticatedConnections,
        unauthenticatedMs: limits.unauthenticatedTimeout,
        maxFieldSectionSize: limits.maxHeaderBytes,
        idleTimeoutMs: limits.idleTimeout,
        maxStreams: MAX_STREAMS,
      },
      logger: this.#logger,
    };
    const quic = await bound(`udp ${formatHostPort(listen.quic)}`, listenQuic({ ...listen.quic, ...shared }));
    this.#listeners.push(quic);
    if (listen.tls !== null) {
      // Port 0 means "any": then the TLS carrier takes the port QUIC got, since nodes know one port.
      const port = listen.tls.port === 0 ? quic.port : listen.tls.port;
      const address = { ...listen.tls, port };
      this.#listeners.push(
        await bound(`tcp ${formatHostPort(address)}`, listenTls({ ...address, ...shared })),
      );
    }
    for (const listener of this.#listeners) void this.#accept(listener);
    this.#health?.setReady();
    this.#logger.info("relay_started", {
      relay: this.#name,
      quic: formatHostPort({ ...listen.quic, port: quic.port }),
      tls: listen.tls === null ? null : formatHostPort({ ...listen.tls, port: this.#listeners[1]!.port }),
      trustDomain: identity.id.trustDomain,
    });
  }

  async #accept(listener: Listener): Promise<void> {
    for await (const connection of listener.connections()) {
      if (this.#peers.enter(connection)) void this.#serve(connection);
    }
  }

  async #serve(connection: ServerConnection): Promise<void> {
    for await (const request of connection.requests()) {
      this.#handle(request).catch((error) => {
        this.#logger.debug("request_failed", { connection: connection.id, detail: errorMessage(error) });
      });
    }
  }

  async #handle(request: ServerRequest): Promise<void> {
    const route = routeRequest(request.head);
    const { connection } = request;
    const admission = await this.#peers.admit(connection, request.head);
    // A page cannot add a header to its session, so its proof comes as the session's first message.
    if (route.kind === "browser") return await this.#serveBrowser(request);
    if (admission.verdict === "deny") {
      this.#audit.record({
        event: "deny",
        who: "unauthenticated",
        service: "",
        outcome: String(admission.refusal.status),
        reason: admission.reason,
      });
      return await this.#refuse(request, admission.refusal);
    }
    const { peer } = admission;
    switch (route.kind) {
      case "refuse":
        return await this.#refuse(request, ROUTE_REFUSALS[route.status]);
      case "ip":
        return await this.#serveIp(request, { peer, ip: route });
      case "view":
        return await this.#serveView(request, peer);
      case "connector":
        return await this.#serveConnector(request, peer);
      case "park":
        return await this.#park(request, peer);
      case "park_caller":
        return await this.#parkCaller(request, peer);
      case "session":
        return await this.#serveSession(request, { peer, connector: route.connector });
      case "tcp":
      case "udp":
      case "icmp":
        return await this.#serveFlow(request, { peer, route });
    }
  }

  async #serveFlow(
    request: ServerRequest,
    { peer, route }: { peer: Peer; route: Route & { kind: "tcp" | "udp" | "icmp" } },
  ): Promise<void> {
    if (this.#draining) return await this.#refuse(request, REFUSALS.draining);
    const result = await this.#broker.open({
      caller: peer.id,
      service: route.service,
      port: route.port,
      protocol: route.kind,
      ...(route.kind === "tcp" ? {} : { datagrams: request.datagrams }),
      sealed: route.framing === "sealed",
      avoid: this.#links.keysOf(avoidedInstances(request)),
    });
    await this.#answer(request, result, {
      headers: route.framing === "capsules" ? [["capsule-protocol", "?1"]] : [],
      // The capsules of datagrams are for the connector: they hold what is too large for one.
      wrap: route.framing === "capsules" && route.kind === "tcp" ? capsuleChannel : (body) => body,
    });
  }

  async #serveIp(request: ServerRequest, { peer, ip }: { peer: Peer; ip: IpRequest }): Promise<void> {
    if (this.#draining) return await this.#refuse(request, REFUSALS.draining);
    if (this.#tunnels === undefined) return await this.#refuse(request, REFUSALS.noTunnels);
    this.#beginSession(peer);
    const refusal = await this.#tunnels.serve(request, { id: peer.id, ip });
    if (refusal !== undefined) await this.#refuse(request, refusal);
  }

  async #serveSession(request: ServerRequest, wish: { peer: Peer; connector: string }): Promise<void> {
    if (this.#draining) return await this.#refuse(request, REFUSALS.draining);
    const instance = request.head.headers.get(INSTANCE_HEADER);
    const link = this.#links.find(wish.connector, instance);
    // An unknown connector and one the caller has no business with look the same.
    if (link === undefined) return await this.#refuse(request, REFUSALS.denied);
    await this.#answer(request, await this.#broker.openSession(wish.peer.id, link), {
      headers: [],
      wrap: (body) => body,
    });
  }

  async #answer(
    request: ServerRequest,
    result: FlowResult,
    options: {
      readonly headers: readonly (readonly [string, string])[];
      readonly wrap: (body: ByteChannel) => ByteChannel;
    },
  ): Promise<void> {
    if (!result.ok) return await this.#refuse(request, result.refusal);
    const headers: (readonly [string, string])[] = [
      [CONNECTOR_HEADER, result.link.id.uri],
      [INSTANCE_HEADER, result.link.instance],
      ...options.headers,
      ...(result.maxDatagram === undefined
        ? []
        : [[DATAGRAM_SIZE_HEADER, String(result.maxDatagram)] as const]),
    ];
    let body: ByteChannel;
    try {
      body = await request.respond({ status: 200, headers });
    } catch (error) {
      result.cancel();
      throw error;
    }
    await result.join(options.wrap(body));
  }

  async #serveView(request: ServerRequest, peer: Peer): Promise<void> {
    if (this.#viewStreams.isServed(request.connection)) {
      return await this.#refuse(request, REFUSALS.viewOpen);
    }
    this.#beginSession(peer);
    await this.#viewStreams.serve(request, peer);
  }

  async #serveConnector(request: ServerRequest, peer: Peer): Promise<void> {
    if (!this.#links.mayServe(request, peer)) return await this.#refuse(request, REFUSALS.denied);
    if (this.#draining) return await this.#refuse(request, REFUSALS.draining);
    this.#beginSession(peer);
    await this.#links.serve(request, peer);
  }

  async #park(request: ServerRequest, peer: Peer): Promise<void> {
    if (this.#draining || !(await this.#links.park(request, peer))) {
      await this.#refuse(request, REFUSALS.denied);
    }
  }

  /** A caller's connection that waits here, admitted, for the flow it will ask for. */
  async #parkCaller(request: ServerRequest, peer: Peer): Promise<void> {
    if (this.#draining) return await this.#refuse(request, REFUSALS.draining);
    const body = await request.respond({ status: 200 });
    try {
      await serveDial(body, { ...this.#dials, caller: peer.id });
    } catch (error) {
      body.abort(error);
      throw error;
    }
  }

  async #serveBrowser(request: ServerRequest): Promise<void> {
    if (this.#draining) return await this.#refuse(request, REFUSALS.draining);
    await serveBrowser(request, {
      ...this.#dials,
      admit: (token) => this.#peers.admitToken(request.connection, token),
      logger: this.#logger,
    });
  }

  #admitted(peer: Peer): void {
    this.#logger.debug("peer_admitted", { identity: peer.id.uri, connection: peer.connection.id });
    this.#source.admitted(peer.id);
  }

  /** Tells a controller that a node is here. Connections that wait for a flow, or carry one, are part of what they came with. */
  #beginSession({ id, connection }: Peer): void {
    if (this.#sessions.has(connection)) return;
    const session = this.#source.sessions?.open({
      identity: id.uri,
      kind: id.kind === "user" || id.kind === "connector" ? id.kind : "agent",
      remote: formatHostPort(connection.remote),
      end: () => this.#endSession(id.uri, connection),
    });
    if (session === undefined) return;
    this.#sessions.set(connection, session);
    connection.closed.then(() => session.close());
  }

  /** Ends a node's session with all its connections here that are no session of their own: they may carry its flows. */
  #endSession(identity: string, connection: ServerConnection): void {
    this.#peers.closeWhere((peer) => {
      const isPart = peer.connection === connection || !this.#sessions.has(peer.connection);
      return isPart && peer.id.uri === identity ? "ended by an administrator" : undefined;
    });
  }

  #refuse(request: ServerRequest, refusal: Refusal): Promise<void> {
    return refuseRequest(request, refusal, { proxy: this.#name });
  }

  async #stop(reason: string): Promise<void> {
    const { drainSeconds } = this.#config;
    this.#logger.info("relay_draining", { reason, seconds: drainSeconds, flows: this.#broker.size });
    this.#draining = true;
    this.#health?.setUnready("draining");
    this.#viewStreams.drain(drainSeconds);
    this.#links.drain(drainSeconds);
    for (const connection of this.#peers.connections()) void connection.goaway().catch(() => {});
    const deadline = Date.now() + drainSeconds * 1_000;
    while (this.#broker.size > 0 && Date.now() < deadline) await sleep(50);
    this.#broker.abortAll("relay stopped");
    await this.#tunnels?.close();
    for (const connection of this.#peers.connections()) connection.close(H3_NO_ERROR, "relay stopped");
    for (const listener of this.#listeners) await listener.close();
    await this.#source[Symbol.asyncDispose]();
    await this.#audit.close();
    await this.#health?.close();
    this.#logger.info("relay_stopped", {});
    this.#resolveClosed();
  }
}

/** Names the address in the error of a listener that could not be bound. */
function bound<T>(name: string, listening: Promise<T>): Promise<T> {
  return listening.catch((error) => {
    throw listenError(name, error);
  });
}
