/**
 * Sealed flows between the ends of a test session.
 */

import type { ByteChannel } from "../../src/base/channel.ts";
import { acceptFlow, type AcceptFlowOptions, openFlow } from "../../src/dataplane/flow.ts";
import type { SealedChannel } from "../../src/dataplane/sealed_channel.ts";
import { channelPair } from "./channel_pair.ts";
import { type HostileRelay, hostileRelay, type HostileRelayOptions } from "./hostile_relay.ts";
import type { SessionPair } from "./session_pair.ts";

/** How to open a test flow. */
export interface SealedFlowOptions extends HostileRelayOptions {
  /** What the agent asks for; default "web". */
  readonly service?: string;
  /** Changes to what the connector does. */
  readonly accept?: Partial<AcceptFlowOptions>;
}

/** An attempt to open a flow through a relay. */
export interface FlowAttempt {
  readonly relay: HostileRelay;
  readonly agent: Promise<SealedChannel>;
  readonly connector: ReturnType<typeof acceptFlow>;
}

/** An open flow through a relay. */
export interface SealedFlow {
  readonly relay: HostileRelay;
  readonly agent: SealedChannel;
  readonly connector: SealedChannel;
}

/** Starts opening a flow at both ends. */
export function attemptFlow(session: SessionPair, options: SealedFlowOptions = {}): FlowAttempt {
  const relay = hostileRelay(options);
  const header = { service: options.service ?? "web", protocol: "tcp" } as const;
  const agent = openFlow({ channel: relay.agentEnd, session: session.agent, header });
  const connector = acceptTestFlow(session, relay.connectorEnd, options.accept);
  return { relay, agent, connector };
}

/** Opens a flow through a relay that may meddle only later. */
export async function sealedFlow(session: SessionPair, options: SealedFlowOptions = {}): Promise<SealedFlow> {
  const { relay, agent, connector } = attemptFlow(session, options);
  const [near, far] = await Promise.all([agent, connector]);
  return { relay, agent: near, connector: far.channel };
}

/** The connector's part: takes a flow to "web" from the session's agent, whose upstream nobody uses. */
export function acceptTestFlow(
  session: SessionPair,
  channel: ByteChannel,
  changes: Partial<AcceptFlowOptions> = {},
): ReturnType<typeof acceptFlow> {
  return acceptFlow({
    channel,
    relayed: { service: "web", protocol: "tcp", caller: session.agent.self },
    findSession: (id) => id === session.connector.id ? session.connector : undefined,
    authorize: () => ({ verdict: "allow" }),
    dial: () => Promise.resolve(channelPair()[0]),
    ...changes,
  });
}
