/**
 * The agent's end-to-end sessions, one for each connector process and relay: made when first needed, shared by all
 * flows, forgotten when they end.
 */

import { withSignal } from "../../base/async.ts";
import { GinnelError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { Exchange } from "../../dataplane/carrier.ts";
import { openSession, type Session } from "../../dataplane/session.ts";
import type { SessionTrust } from "../../dataplane/session_trust.ts";
import type { Identity } from "../../identity/identity_file.ts";
import { parseSpiffeId, parseWorkloadId, trustDomainOf } from "../../identity/spiffe_id.ts";
import { sessionPath } from "../../wire/masque/uri.ts";
import { INSTANCE_HEADER } from "../shared/relay_protocol.ts";
import type { RelayClient } from "../shared/relay_client.ts";

/** A connector process that a relay chose. */
export interface ConnectorChoice {
  /** Its SPIFFE ID. */
  readonly uri: string;
  readonly instance: string;
}

/** Milliseconds a session may take to be made. */
const SESSION_TIMEOUT_MS = 10_000;

/** Milliseconds before the end of a certificate's life at which its session takes no new flows. */
const EXPIRY_MARGIN_MS = 60_000;

/** Milliseconds after which a session is replaced by one with fresh keys; running flows keep the old one. */
const REKEY_AFTER_MS = 3_600_000;

/** What a pool needs. */
export interface SessionPoolOptions {
  readonly identity: () => Identity;
  /** Whom to trust now. */
  readonly trust: () => SessionTrust;
  readonly logger: Logger;
}

/** Makes and keeps sessions. */
export class SessionPool {
  readonly #options: SessionPoolOptions;
  readonly #sessions = new Map<string, PooledSession>();
  /** Every session not yet closed, those replaced by a fresh one included. */
  readonly #open = new Set<Session>();

  constructor(options: SessionPoolOptions) {
    this.#options = options;
  }

  /** Returns the session with a connector over one relay, making it if there is none. */
  get(relay: RelayClient, connector: ConnectorChoice): Promise<Session> {
    const key = `${relay.name} ${connector.uri} ${connector.instance}`;
    const pooled = this.#sessions.get(key);
    if (pooled !== undefined && pooled.freshUntil > Date.now()) return pooled.session;
    const made: PooledSession = {
      session: this.#make(relay, connector),
      freshUntil: Date.now() + REKEY_AFTER_MS,
    };
    this.#sessions.set(key, made);
    if (pooled !== undefined) void retire(pooled);
    const forget = () => {
      if (this.#sessions.get(key) === made) this.#sessions.delete(key);
    };
    made.session.then((session) => {
      made.freshUntil = Math.min(made.freshUntil, session.notAfter - EXPIRY_MARGIN_MS);
      this.#open.add(session);
      // Either may have changed while the session was made.
      session.renew(this.#options.identity());
      session.recheck();
      session.closed.then(() => {
        this.#open.delete(session);
        forget();
      });
    }, forget);
    return made.session;
  }

  /** Ends the sessions with connectors that `keeps` does not name. */
  retain(keeps: (connector: string) => boolean): void {
    for (const session of this.#open) {
      if (!keeps(session.peer.uri)) session.close("the view no longer names this connector");
    }
  }

  /** We hold a newer certificate: the sessions live on with it. */
  renew(): void {
    for (const session of this.#open) session.renew(this.#options.identity());
  }

  /** Trust has changed: ends the sessions whose connectors would not be let in any more. */
  recheck(): void {
    for (const session of this.#open) session.recheck();
  }

  close(reason: string): void {
    for (const session of this.#open) session.close(reason);
  }

  /** Finds out whether a connector answers its relay; does not settle before the signal fires while it has not. */
  async ask(
    { relay, connector }: { readonly relay: RelayClient; readonly connector: ConnectorChoice },
    signal: AbortSignal,
  ): Promise<void> {
    const { head, body } = await this.#request({ relay, connector }, signal);
    body.abort();
    if (head.status !== 200) await withSignal(new Promise(() => {}), signal);
  }

  #request(
    { relay, connector: { uri, instance } }: {
      readonly relay: RelayClient;
      readonly connector: ConnectorChoice;
    },
    signal: AbortSignal,
  ): Promise<Exchange> {
    return relay.request({
      method: "CONNECT",
      protocol: "connect-tcp",
      scheme: "https",
      path: sessionPath(nameAtRelay(uri, this.#options.identity().trust.domain)),
      headers: [[INSTANCE_HEADER, instance]],
    }, { signal });
  }

  async #make(relay: RelayClient, connector: ConnectorChoice): Promise<Session> {
    const { identity: current, trust, logger } = this.#options;
    const identity = current();
    const signal = AbortSignal.timeout(SESSION_TIMEOUT_MS);
    const { head, body } = await this.#request({ relay, connector }, signal);
    if (head.status !== 200) {
      body.abort();
      throw new GinnelError(
        "ERR_SESSION_REFUSED",
        `Relay ${relay.name} answered ${head.status} to a session request`,
      );
    }
    const session = await openSession({
      channel: body,
      identity,
      ...trust(),
      trust,
      expectPeer: connector.uri,
      signal,
    });
    logger.debug("session_opened", { relay: relay.name, connector: connector.uri });
    return session;
  }
}

/** How the relay is asked for a connector: by its name, or by its SPIFFE ID where it is of a foreign trust domain. */
function nameAtRelay(uri: string, domain: string): string {
  return trustDomainOf(uri) === domain ? parseSpiffeId(uri).name : parseWorkloadId(uri).uri;
}

async function retire({ session }: PooledSession): Promise<void> {
  try {
    (await session).retire();
  } catch {
    // It was never made.
  }
}

interface PooledSession {
  readonly session: Promise<Session>;
  freshUntil: number;
}
