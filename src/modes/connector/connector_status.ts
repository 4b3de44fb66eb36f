/** How a connector is, as `ginnel status` tells it. */

import type { NodeStatus } from "../shared/node_status.ts";

/** Everything a connector tells. */
export interface ConnectorStatus extends NodeStatus {
  readonly mode: "connector";
  /** Flows open now, of all services. */
  readonly flows: number;
  readonly services: readonly OfferedStatus[];
}

/** One offered service. */
export interface OfferedStatus {
  readonly name: string;
  readonly healthy: boolean;
}
