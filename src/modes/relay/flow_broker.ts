/**
 * Joins agents to connectors: asks the policy, chooses the least busy connector, falls over to the next when one
 * refuses, splices the two streams, and ends what loses its right. Reads no byte of what it carries.
 */

import { errorMessage } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { PolicySnapshot } from "../../core/policy/snapshot.ts";
import type { LiveFlow, ServiceRegistry } from "../../core/registry.ts";
import type { ByteChannel } from "../../base/channel.ts";
import type { DatagramPort } from "../../dataplane/carrier.ts";
import { bridgedSize, DatagramBridge } from "../../dataplane/datagram_bridge.ts";
import { splice, type SpliceResult } from "../../dataplane/splice.ts";
import type { SpiffeId } from "../../identity/spiffe_id.ts";
import type { AuditLog } from "../../telemetry/audit.ts";
import { ConnectorAsker, ConnectorRefusal, lastRefusal } from "./connector_asker.ts";
import type { ConnectorLink } from "./connector_link.ts";
import { type Refusal, REFUSALS } from "./refusal.ts";

/** What a broker needs. */
export interface FlowBrokerOptions {
  readonly registry: ServiceRegistry;
  readonly snapshot: () => PolicySnapshot;
  readonly link: (key: string) => ConnectorLink | undefined;
  readonly audit: AuditLog;
  readonly logger: Logger;
}

/** A caller's wish for a flow. */
export interface FlowRequest {
  readonly caller: SpiffeId;
  readonly service: string;
  readonly port: number;
  /** What the flow carries; `tcp` when absent. */
  readonly protocol?: "tcp" | "udp" | "icmp";
  /** The caller's datagrams, for a flow of them. */
  readonly datagrams?: DatagramPort;
  /** The bytes are records of an end-to-end session. */
  readonly sealed: boolean;
  /** Connector instances that just failed this caller. */
  readonly avoid: ReadonlySet<string>;
}

/** A flow ready to be joined to its caller, or why there is none. */
export type FlowResult = OpenedFlow | { readonly ok: false; readonly refusal: Refusal };

/** A flow that a connector has agreed to. */
interface OpenedFlow {
  readonly ok: true;
  readonly link: ConnectorLink;
  /** Of a flow of datagrams: bytes of the largest payload that crosses as a datagram; 0: none does. */
  readonly maxDatagram?: number;
  readonly join: (caller: ByteChannel) => Promise<void>;
  readonly cancel: () => void;
}

/** What the audit log says of refusals, where that is not what the caller is told. */
const DENY_REASONS = new Map<Refusal, string>([
  [REFUSALS.noConnector, "no_connector"],
  [REFUSALS.tooManyFlows, "flows_per_identity"],
]);

/** End-to-end sessions that one caller may hold open through a relay; each is one stream. */
const MAX_SESSIONS_PER_IDENTITY = 1_024;

/** Opens, tracks and ends flows. */
export class FlowBroker {
  readonly #options: FlowBrokerOptions;
  readonly #live = new Map<number, { readonly flow: LiveFlow; readonly abort: AbortController }>();
  readonly #sessions = new Set<LiveSession>();
  readonly #asker: ConnectorAsker;

  constructor(options: FlowBrokerOptions) {
    this.#options = options;
    this.#asker = new ConnectorAsker(options.logger);
  }

  /** Flows being spliced now. */
  get size(): number {
    return this.#live.size;
  }

  /** Opens a flow for a caller. */
  async open(request: FlowRequest): Promise<FlowResult> {
    const { snapshot } = this.#options;
    const decision = snapshot().mayDial(request.caller.uri, request.service);
    if (decision.verdict === "deny") return this.#deny(request, REFUSALS.denied, decision.reason);
    if (!request.sealed && snapshot().service(request.service)?.endToEnd !== "optional") {
      return this.#deny(request, REFUSALS.sealedOnly, "end_to_end_required");
    }
    const candidates = this.#candidates(request);
    const attempt = (link: ConnectorLink) => this.#attempt(request, link);
    try {
      if (candidates.length === 1) return await attempt(candidates[0]!);
      return await this.#asker.first(candidates, {
        isSealed: request.sealed,
        attempt,
        discard: ({ cancel }) => cancel(),
      });
    } catch (error) {
      const refusal = lastRefusal(error);
      return this.#deny(request, refusal, DENY_REASONS.get(refusal) ?? refusal.error);
    }
  }

  /** Carries an end-to-end session's stream between a caller and one connector. */
  async openSession(caller: SpiffeId, link: ConnectorLink): Promise<FlowResult> {
    if (!this.#maySession(caller.uri, link)) return { ok: false, refusal: REFUSALS.denied };
    let count = 0;
    for (const session of this.#sessions) if (session.caller === caller.uri) count++;
    if (count >= MAX_SESSIONS_PER_IDENTITY) return { ok: false, refusal: REFUSALS.tooManyFlows };
    // Counted, and open to revocation, already while the connector is asked.
    const session: LiveSession = { caller: caller.uri, link, abort: new AbortController() };
    this.#sessions.add(session);
    const opened = await this.#asker.ask(link, {
      v: 1,
      kind: "session",
      flow: "0",
      protocol: "tcp",
      caller: caller.uri,
      sealed: true,
    });
    if (!("channel" in opened)) {
      this.#sessions.delete(session);
      return { ok: false, refusal: opened };
    }
    const { channel } = opened;
    return {
      ok: true,
      link,
      join: async (near) => {
        await splice(near, channel, { signal: session.abort.signal });
        this.#sessions.delete(session);
      },
      cancel: () => {
        this.#sessions.delete(session);
        channel.abort();
      },
    };
  }

  /** Ends every flow and session whose right is gone under the policy in force now. */
  policyChanged(): void {
    const snapshot = this.#options.snapshot();
    for (const { flow, abort } of this.#live.values()) {
      const stays = snapshot.mayDial(flow.caller, flow.service).verdict === "allow" &&
        snapshot.mayBind(flow.connector, flow.service).verdict === "allow";
      if (!stays) abort.abort(new RevokedError());
    }
    for (const session of this.#sessions) {
      if (!this.#maySession(session.caller, session.link)) session.abort.abort(new RevokedError());
    }
  }

  /** Ends everything. */
  abortAll(reason: string): void {
    for (const { abort } of this.#live.values()) abort.abort(new Error(reason));
    for (const session of this.#sessions) session.abort.abort(new Error(reason));
  }

  /** The connectors of a service, least busy first; those that did not answer lately come last. */
  #candidates({ service, avoid }: FlowRequest): ConnectorLink[] {
    const { registry, link } = this.#options;
    const links = registry.candidates(service, { exclude: avoid })
      .map(({ connectorKey }) => link(connectorKey))
      .filter((link) => link !== undefined);
    return this.#asker.inOrder(links);
  }

  /** Asks one connector; rejects with a `ConnectorRefusal`. */
  async #attempt(request: FlowRequest, link: ConnectorLink): Promise<OpenedFlow> {
    const { registry, logger } = this.#options;
    const { caller, service } = request;
    const start = registry.startFlow({ caller: caller.uri, service, connectorKey: link.key });
    if (!start.ok) {
      const isTooMany = start.reason === "flows_per_identity";
      throw new ConnectorRefusal(isTooMany ? REFUSALS.tooManyFlows : undefined);
    }
    const result = await this.#tryConnector(request, link, start.flow);
    if ("ok" in result) return result;
    const { status } = result;
    logger.info("connector_refused_flow", { connector: link.id.uri, service, status });
    throw new ConnectorRefusal(result);
  }

  async #tryConnector(
    request: FlowRequest,
    link: ConnectorLink,
    flow: LiveFlow,
  ): Promise<OpenedFlow | Refusal> {
    const { registry } = this.#options;
    // Open to revocation already while the connector is asked.
    const abort = new AbortController();
    this.#live.set(flow.id, { flow, abort });
    const end = () => {
      this.#live.delete(flow.id);
      registry.endFlow(flow.id);
    };
    const { protocol = "tcp", datagrams } = request;
    const maxDatagram = datagrams === undefined ? undefined : bridgedSize(datagrams, link.datagrams);
    const opened = await this.#asker.ask(link, {
      v: 1,
      kind: "flow",
      flow: String(flow.id),
      service: request.service,
      ...(protocol === "icmp" ? {} : { port: request.port }),
      protocol,
      ...(maxDatagram === undefined ? {} : { maxDatagram }),
      caller: request.caller.uri,
      sealed: request.sealed,
    });
    if (!("channel" in opened)) {
      end();
      return opened;
    }
    const { channel } = opened;
    return {
      ok: true,
      link,
      ...(maxDatagram === undefined ? {} : { maxDatagram }),
      join: async (near) => {
        const started = performance.now();
        this.#record("connect", flow, { outcome: "open" });
        const far = datagrams === undefined ? undefined : link.datagrams.open(flow.id);
        const bridge = far === undefined ? undefined : new DatagramBridge(datagrams!, far, {
          limit: maxDatagram!,
          onOutgrown: () => abort.abort(new Error("The path takes no datagrams of the flow's size any more")),
        });
        const result = await splice(near, channel, { signal: abort.signal });
        bridge?.end();
        end();
        this.#record("close", flow, {
          outcome: result.error instanceof RevokedError ? "revoked" : result.outcome,
          ...(bridge?.withStream(result) ?? { bytesIn: result.bytesAtoB, bytesOut: result.bytesBtoA }),
          durationMs: Math.round(performance.now() - started),
        });
        this.#logFailure(flow, result);
        if (bridge !== undefined && bridge.counters.dropped > 0) {
          this.#options.logger.debug("datagrams_dropped", {
            flow: flow.id,
            dropped: bridge.counters.dropped,
          });
        }
      },
      cancel: () => {
        end();
        channel.abort();
      },
    };
  }

  #maySession(caller: string, link: ConnectorLink): boolean {
    const { registry, snapshot } = this.#options;
    const policy = snapshot();
    for (const binding of registry.bindings()) {
      if (binding.connectorKey === link.key && policy.mayDial(caller, binding.service).verdict === "allow") {
        return true;
      }
    }
    return false;
  }

  #deny(request: FlowRequest, refusal: Refusal, reason: string): FlowResult {
    this.#options.audit.record({
      event: "deny",
      who: request.caller.uri,
      service: request.service,
      outcome: String(refusal.status),
      reason,
    });
    return { ok: false, refusal };
  }

  #record(
    event: "connect" | "close",
    flow: LiveFlow,
    fields: Omit<Parameters<AuditLog["record"]>[0], "event" | "who" | "service">,
  ): void {
    this.#options.audit.record({
      event,
      who: flow.caller,
      service: flow.service,
      connector: flow.connector,
      flow: String(flow.id),
      ...fields,
    });
  }

  #logFailure(flow: LiveFlow, result: SpliceResult): void {
    if (result.outcome === "closed") return;
    this.#options.logger.debug("flow_broken", {
      flow: flow.id,
      outcome: result.outcome,
      detail: errorMessage(result.error),
    });
  }
}

interface LiveSession {
  readonly caller: string;
  readonly link: ConnectorLink;
  readonly abort: AbortController;
}

/** The right to this flow was taken away while it ran. */
class RevokedError extends Error {
  override readonly name = "RevokedError";

  constructor() {
    super("The policy no longer allows this flow");
  }
}
