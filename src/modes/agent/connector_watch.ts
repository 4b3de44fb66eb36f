/**
 * Notices when the connector of running flows is gone though its relay is there: something was sent to it, nothing comes
 * back, and three times it does not answer the relay either. The relay itself would learn it from QUIC's idle time-out.
 */

import type { Session } from "../../dataplane/session.ts";
import type { RelayClient } from "../shared/relay_client.ts";
import { hasSignOfLife } from "../shared/sign_of_life.ts";
import { type FlowSigns, FlowWatch } from "./flow_watch.ts";
import type { ConnectorChoice } from "./sessions.ts";

/** One connector process over one relay, and the session that all its flows share. */
export interface ConnectorPath {
  readonly relay: RelayClient;
  readonly connector: ConnectorChoice;
  readonly session: Session;
}

/** Asks whether the connector is there: settles not before the signal fires where it has not answered the relay. */
export type AskConnector = (path: ConnectorPath, signal: AbortSignal) => Promise<void>;

/** Watches connectors as long as they have flows, and ends the sessions, and thereby the flows, of those that are gone. */
export class ConnectorWatch {
  readonly #ask: AskConnector;
  readonly #watch = new FlowWatch<Session>({ onSilent: (session) => void this.#check(session) });
  readonly #paths = new WeakMap<Session, ConnectorPath>();
  readonly #checking = new WeakSet<Session>();

  constructor(ask: AskConnector) {
    this.#ask = ask;
  }

  /** Begins to watch a flow. */
  enter(path: ConnectorPath): FlowSigns {
    const { session } = path;
    this.#paths.set(session, path);
    return this.#watch.enter(session);
  }

  /** Watches no more. */
  close(): void {
    this.#watch.close();
  }

  async #check(session: Session): Promise<void> {
    const path = this.#paths.get(session)!;
    const { connection } = path.relay;
    if (connection === undefined || this.#checking.has(session)) return;
    this.#checking.add(session);
    const isAlive = await hasSignOfLife({
      ask: (signal) => this.#ask(path, signal),
      isRefused: () => Promise.resolve(false),
    });
    this.#checking.delete(session);
    // Of a relay that is silent itself, others take care.
    if (!isAlive && path.relay.connection === connection) session.close("the connector is silent");
  }
}
