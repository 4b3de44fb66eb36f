/**
 * Sealed flows of datagrams between the ends of a test session.
 */

import {
  acceptDatagramFlow,
  type AcceptDatagramFlowOptions,
  openDatagramFlow,
} from "../../src/dataplane/datagram/open_datagram_flow.ts";
import type { SealedDatagramFlow } from "../../src/dataplane/datagram/sealed_datagram_flow.ts";
import type { FlowTarget } from "../../src/dataplane/open_header.ts";
import { datagramPair, type MemoryDatagrams } from "./datagram_pair.ts";
import { type HostileRelay, hostileRelay, type HostileRelayOptions } from "./hostile_relay.ts";
import type { SessionPair } from "./session_pair.ts";

/** How to open a test flow. */
export interface DatagramFlowOptions extends HostileRelayOptions {
  /** What the agent asks for, beside UDP to "web". */
  readonly target?: Partial<FlowTarget>;
  /** Changes to what the connector does. */
  readonly accept?: Partial<AcceptDatagramFlowOptions<TestUpstream>>;
  /** Bytes of the path's datagrams; default 1,400. */
  readonly maxSize?: number;
}

/** Stands for a connected socket. */
export interface TestUpstream {
  abort(reason?: unknown): void;
}

/** An attempt to open a flow through a relay. */
export interface DatagramFlowAttempt {
  readonly relay: HostileRelay;
  /** The path's datagrams at the agent and at the connector. */
  readonly wires: readonly [MemoryDatagrams, MemoryDatagrams];
  readonly agent: Promise<SealedDatagramFlow>;
  readonly connector: ReturnType<typeof acceptDatagramFlow<TestUpstream>>;
}

/** Starts opening a flow at both ends. */
export function attemptDatagramFlow(
  session: SessionPair,
  options: DatagramFlowOptions = {},
): DatagramFlowAttempt {
  const relay = hostileRelay(options);
  const wires = datagramPair(options.maxSize);
  const header = { service: "web", protocol: "udp", ...options.target } as const;
  const { address: _, ...seen } = header;
  const agent = openDatagramFlow({
    channel: relay.agentEnd,
    datagrams: wires[0],
    session: session.agent,
    header,
  });
  const connector = acceptDatagramFlow<TestUpstream>({
    channel: relay.connectorEnd,
    datagrams: wires[1],
    relayed: { ...seen, caller: session.agent.self },
    findSession: (id) => id === session.connector.id ? session.connector : undefined,
    authorize: () => ({ verdict: "allow" }),
    dial: () => Promise.resolve({ abort: () => {} }),
    ...options.accept,
  });
  return { relay, wires, agent, connector };
}

/** An open flow, and what each end got. */
export interface OpenDatagramFlow extends Pick<DatagramFlowAttempt, "relay" | "wires"> {
  readonly agent: SealedDatagramFlow;
  readonly connector: SealedDatagramFlow;
  /** Copies of the payloads, as each end got them. */
  readonly atAgent: Uint8Array[];
  readonly atConnector: Uint8Array[];
}

/** Opens a flow. */
export async function openTestDatagramFlow(
  session: SessionPair,
  options: DatagramFlowOptions = {},
): Promise<OpenDatagramFlow> {
  const { relay, wires, agent, connector } = attemptDatagramFlow(session, options);
  const [near, { flow: far }] = await Promise.all([agent, connector]);
  const [atAgent, atConnector]: [Uint8Array[], Uint8Array[]] = [[], []];
  near.receive((payload) => void atAgent.push(payload.slice()));
  far.receive((payload) => void atConnector.push(payload.slice()));
  return { relay, wires, agent: near, connector: far, atAgent, atConnector };
}
