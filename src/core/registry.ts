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

/** A connector that could take a flow. */
export interface Candidate {
  readonly connectorKey: string;
  /** Its SPIFFE ID. */
  readonly identity: string;
  /** Live flows through this connector, over all its services. */
  readonly flows: number;
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
  constructor(_limits: RegistryLimits) {}

  /** Adds or renews a binding; a new binding is healthy until {@linkcode setHealth} says otherwise. */
  bind(_connectorKey: string, _identity: string, _service: string): BindResult {
    throw new Error("not yet");
  }
  /** Removes a binding; its live flows go on. Returns whether it was there. */
  unbind(_connectorKey: string, _service: string): boolean {
    throw new Error("not yet");
  }
  /** Marks a binding; unhealthy ones take no new flows. Returns whether the binding exists. */
  setHealth(_connectorKey: string, _service: string, _healthy: boolean): boolean {
    throw new Error("not yet");
  }
  /** Forgets a connector; returns the services it offered. */
  drop(_connectorKey: string): readonly string[] {
    throw new Error("not yet");
  }
  /** Healthy connectors of a service: least flows first, then the one whose last flow started longest ago. */
  candidates(_service: string, _options: { readonly exclude?: ReadonlySet<string> } = {}): Candidate[] {
    throw new Error("not yet");
  }
  /** Counts a flow against its caller and its connector. */
  startFlow(_start: { caller: string; service: string; connectorKey: string }): FlowStart {
    throw new Error("not yet");
  }
  /** Forgets a flow; harmless when it is gone already. */
  endFlow(_id: number): void {
    throw new Error("not yet");
  }
  /** All live flows, oldest first. */
  flows(): Iterable<LiveFlow> {
    throw new Error("not yet");
  }
  /** SPIFFE IDs of all connectors with at least one binding. */
  identities(): Iterable<string> {
    throw new Error("not yet");
  }
  /** Every binding, for status output. */
  bindings(): Iterable<{ service: string; connectorKey: string; identity: string; healthy: boolean }> {
    throw new Error("not yet");
  }
}
