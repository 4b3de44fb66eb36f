/**
 * An agent without local listeners, in this process: a test opens its flows itself.
 */

import { SILENT_LOGGER } from "../../src/base/log.ts";
import { FlowDialer } from "../../src/modes/agent/flow_dialer.ts";
import { SessionPool } from "../../src/modes/agent/sessions.ts";
import { Node } from "../../src/modes/shared/node.ts";
import type { Network, RelayPlace } from "./network.ts";

/** How to make one. */
export interface DialNodeOptions {
  readonly relays: readonly RelayPlace[];
  readonly name?: string;
  readonly carrier?: "auto" | "quic" | "tls";
}

/** The node; disposing it ends its flows and connections. */
export class DialNode implements AsyncDisposable {
  readonly dialer: FlowDialer;
  readonly node: Node;
  readonly #sessions: SessionPool;

  /** Connects to the relays; resolves when one of them serves it and it knows what it may dial. */
  static async open(network: Network, options: DialNodeOptions): Promise<DialNode> {
    const { relays, name = "alice", carrier = "quic" } = options;
    const node = await Node.create({
      identity: await network.issue("agent", name),
      relays: relays.map(({ name, port }) => ({ name, address: { hostname: "127.0.0.1", port } })),
      carrier,
    }, { logger: SILENT_LOGGER });
    const opened = new DialNode(node);
    await opened.node.views.waitFor(() => node.views.newest !== undefined, 10_000);
    return opened;
  }

  private constructor(node: Node) {
    this.node = node;
    this.#sessions = new SessionPool({
      identity: () => node.identity,
      trust: () => node.trust(),
      logger: SILENT_LOGGER,
    });
    this.dialer = new FlowDialer({
      relays: () => node.clients,
      views: node.views,
      sessions: this.#sessions,
      logger: SILENT_LOGGER,
    });
    node.connect(() => ({ onConnected: () => Promise.resolve(), onLost: () => {} }));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.dialer.close();
    this.#sessions.close("test done");
    await this.node.close();
  }
}
