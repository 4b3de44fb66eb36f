/** Which connectors offer which service right now, how busy each is, and every live flow. Pure bookkeeping. */

import type { RelayLimits } from "./limits.ts";

/** The limits a registry holds to. */
export type RegistryLimits = Pick<
  RelayLimits,
  "maxFlowsPerIdentity" | "maxServicesPerConnector" | "maxConnectorsPerService"
>;

/** Whether a service is now offered, or why not. */
export type BindResult =
  | { readonly ok: true }
  | { readonly ok: false; readonly reason: "services_per_connector" | "connectors_per_service" };

/** How much one connector of a service is preferred to another. */
export interface TerminatorRank {
  /** `required` before `default` before `failed`, whatever they cost. */
  readonly precedence: "required" | "default" | "failed";
  /** From 0 to 65535; counts as if that many flows more were open. */
  readonly cost: number;
}

/** A connector that could take a flow. */
export interface Candidate {
  readonly connectorKey: string;
  /** Its SPIFFE ID. */
  readonly identity: string;
  /** Live flows through this connector, over all its services. */
  readonly flows: number;
}

/** How a binding is. */
export interface BindingState extends TerminatorRank {
  readonly healthy: boolean;
}

/** A service offered over one connection. */
export interface Binding {
  readonly connectorKey: string;
  /** SPIFFE ID of the connector. */
  readonly identity: string;
  readonly service: string;
  readonly healthy: boolean;
}

/** A flow being spliced. */
export interface LiveFlow {
  readonly id: number;
  /** SPIFFE ID of who dialled. */
  readonly caller: string;
  readonly service: string;
  readonly connectorKey: string;
  /** SPIFFE ID of the connector. */
  readonly connector: string;
}

/** A started flow, or why it may not start. */
export type FlowStart =
  | { readonly ok: true; readonly flow: LiveFlow }
  | { readonly ok: false; readonly reason: "flows_per_identity" | "not_bound" };

/** The live registry of one relay. `connectorKey` is one connection of a connector, not its identity. */
export class ServiceRegistry {
  readonly #limits: RegistryLimits;
  readonly #connectors = new Map<string, Connector>();
  readonly #services = new Map<string, Map<string, Connector>>();
  readonly #flows = new Map<number, { readonly flow: LiveFlow; readonly connector: Connector }>();
  readonly #flowsOfCaller = new Map<string, number>();
  #lastFlow = 0;

  constructor(limits: RegistryLimits) {
    this.#limits = limits;
  }

  /** Adds a binding, healthy until {@linkcode setState} says otherwise; one that is there stays as it is. */
  bind(connectorKey: string, identity: string, service: string): BindResult {
    const connector = this.#connectors.get(connectorKey) ??
      { key: connectorKey, identity, bound: new Map(), flows: 0, lastFlow: 0 };
    if (connector.identity !== identity) {
      throw new TypeError(
        `Cannot bind as ${identity}: connection ${connectorKey} belongs to ${connector.identity}`,
      );
    }
    if (connector.bound.has(service)) return { ok: true };
    if (connector.bound.size >= this.#limits.maxServicesPerConnector) {
      return { ok: false, reason: "services_per_connector" };
    }
    const offering = this.#services.get(service) ?? new Map<string, Connector>();
    if (offering.size >= this.#limits.maxConnectorsPerService) {
      return { ok: false, reason: "connectors_per_service" };
    }
    connector.bound.set(service, NEW);
    offering.set(connectorKey, connector);
    this.#connectors.set(connectorKey, connector);
    this.#services.set(service, offering);
    return { ok: true };
  }

  /** Removes a binding; its live flows go on. Returns whether it was there. */
  unbind(connectorKey: string, service: string): boolean {
    const removed = this.#connectors.get(connectorKey)?.bound.delete(service) ?? false;
    if (removed) this.#withdraw(connectorKey, service);
    return removed;
  }

  /** Says how a binding is; unhealthy ones take no new flows. Returns whether the binding exists. */
  setState(connectorKey: string, service: string, state: BindingState): boolean {
    const connector = this.#connectors.get(connectorKey);
    if (connector === undefined || !connector.bound.has(service)) return false;
    connector.bound.set(service, state);
    return true;
  }

  /** Forgets a connection; its live flows stay until each is ended. Returns the services it offered. */
  drop(connectorKey: string): readonly string[] {
    const services = [...this.#connectors.get(connectorKey)?.bound.keys() ?? []];
    for (const service of services) this.#withdraw(connectorKey, service);
    this.#connectors.delete(connectorKey);
    return services;
  }

  /**
   * Healthy connectors of a service: by precedence, then least cost and flows together, then the one whose last flow
   * started longest ago.
   */
  candidates(service: string, options: { readonly exclude?: ReadonlySet<string> } = {}): Candidate[] {
    const { exclude } = options;
    return [...this.#services.get(service)?.values() ?? []]
      .map((connector) => ({ connector, state: connector.bound.get(service)! }))
      .filter(({ connector, state }) => state.healthy && !exclude?.has(connector.key))
      .sort((a, b) =>
        PRECEDENCE[a.state.precedence] - PRECEDENCE[b.state.precedence] ||
        a.state.cost + a.connector.flows - b.state.cost - b.connector.flows ||
        a.connector.lastFlow - b.connector.lastFlow
      )
      .map(({ connector: { key, identity, flows } }) => ({ connectorKey: key, identity, flows }));
  }

  /** Counts a flow against its caller and its connector. */
  startFlow(
    start: { readonly caller: string; readonly service: string; readonly connectorKey: string },
  ): FlowStart {
    const { caller, service, connectorKey } = start;
    const connector = this.#connectors.get(connectorKey);
    if (connector === undefined || !connector.bound.has(service)) return { ok: false, reason: "not_bound" };
    const open = this.#flowsOfCaller.get(caller) ?? 0;
    if (open >= this.#limits.maxFlowsPerIdentity) return { ok: false, reason: "flows_per_identity" };
    const flow = { id: ++this.#lastFlow, caller, service, connectorKey, connector: connector.identity };
    connector.flows++;
    connector.lastFlow = flow.id;
    this.#flowsOfCaller.set(caller, open + 1);
    this.#flows.set(flow.id, { flow, connector });
    return { ok: true, flow };
  }

  /** Forgets a flow; harmless when it is gone already. */
  endFlow(id: number): void {
    const entry = this.#flows.get(id);
    if (entry === undefined) return;
    this.#flows.delete(id);
    entry.connector.flows--;
    const left = this.#flowsOfCaller.get(entry.flow.caller)! - 1;
    if (left === 0) this.#flowsOfCaller.delete(entry.flow.caller);
    else this.#flowsOfCaller.set(entry.flow.caller, left);
  }

  /** All live flows, oldest first. */
  *flows(): Generator<LiveFlow> {
    for (const { flow } of this.#flows.values()) yield flow;
  }

  /** Every binding: for status output, and to find those a new policy takes away. */
  *bindings(): Generator<Binding> {
    for (const { key, identity, bound } of this.#connectors.values()) {
      for (const [service, { healthy }] of bound) {
        yield { connectorKey: key, identity, service, healthy };
      }
    }
  }

  #withdraw(connectorKey: string, service: string): void {
    const offering = this.#services.get(service)!;
    offering.delete(connectorKey);
    if (offering.size === 0) this.#services.delete(service);
  }
}

const NEW: BindingState = { healthy: true, precedence: "default", cost: 0 };

const PRECEDENCE: Readonly<Record<TerminatorRank["precedence"], number>> = {
  required: 0,
  default: 1,
  failed: 2,
};

/** One connection of a connector; flows keep it alive after it was dropped. */
interface Connector {
  readonly key: string;
  readonly identity: string;
  /** Bound services and how each is. */
  readonly bound: Map<string, BindingState>;
  flows: number;
  /** Id of the flow it took last, 0 before the first. */
  lastFlow: number;
}
