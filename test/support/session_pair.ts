/**
 * An end-to-end session between two test identities, made in memory.
 */

import { acceptSession, openSession, type Session } from "../../src/dataplane/session.ts";
import { channelPair } from "./channel_pair.ts";
import { type TestNetwork, testNetwork } from "./test_network.ts";

/** Both ends of one session; disposing it closes both. */
export interface SessionPair extends AsyncDisposable {
  readonly network: TestNetwork;
  readonly agent: Session;
  readonly connector: Session;
}

/** Makes a session between agent `alice` and connector `site`. */
export async function sessionPair(network?: TestNetwork): Promise<SessionPair> {
  const net = network ?? await testNetwork();
  const [alice, site] = await Promise.all([net.issue("agent", "alice"), net.issue("connector", "site")]);
  const [near, far] = channelPair();
  const [agent, connector] = await Promise.all([
    openSession({ channel: near, identity: alice, roots: net.roots, expectPeer: site.id.uri }),
    acceptSession({ channel: far, identity: site, roots: net.roots }),
  ]);
  return {
    network: net,
    agent,
    connector,
    [Symbol.asyncDispose]: async () => {
      agent.close();
      await Promise.all([agent.closed, connector.closed]);
    },
  };
}
